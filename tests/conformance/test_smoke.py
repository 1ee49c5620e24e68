import jiwer


def test_transcribes(server, clip):
    answer = server.client.audio.transcriptions.create(model="whisper-1", file=clip.path)
    assert answer.text == clip.text
