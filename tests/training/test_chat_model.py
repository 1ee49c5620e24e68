"""The chat model learns on the same tokens, features and forward pass that its users have."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from models.training.chat.batches import batches, collate, pad_token
from models.training.chat.curriculum import audio_dialogue, training_dialogues
from models.training.chat.dialogues import Answer, Dialogue, Timed, Turn
from models.training.chat.evaluation import AUDIO_TASKS, measure
from models.training.chat.export import export
from models.training.chat.losses import ChatLoss, guided_attention
from models.training.chat.model import POSITIONS_PER_S, ChatModel, build_model, load_model, positions_of
from models.training.chat.rows import IGNORED, DialogueEncoder, Row
from models.training.chat.scenes import Studio
from models.training.chat.settings import SMOKE, Mix
from models.training.chat.text_tasks import repair_dialogue, small_talk
from models.training.chat.tokenizer import AUDIO, TURN_END, build_processor
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE, Corpus

LAG_S = 0.12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus"), 100, seed=1)


@pytest.fixture(scope="module")
def processor(corpus: Corpus) -> Qwen2AudioProcessor:
    return build_processor(corpus, SMOKE.size.vocabulary, seed=1)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper directory of random weights."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    unused = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "vocab_size": 51_000}
    folder = tmp_path_factory.mktemp("whisper")
    WhisperForConditionalGeneration(WhisperConfig(**sizes, **unused)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(processor: Qwen2AudioProcessor, whisper: Path) -> ChatModel:
    """Random weights, large enough that a difference would show."""
    torch.manual_seed(0)
    built = build_model(SMOKE.size, processor.tokenizer, whisper)
    for layer in built.inner.model.language_model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.weight, std=0.3)
        torch.nn.init.normal_(layer.self_attn.k_proj.weight, std=0.3)
    return built.eval()


@pytest.fixture(scope="module")
def dialogues(corpus: Corpus) -> list[Dialogue]:
    """With audio before and after the question, of one to four turns; and without audio."""
    random = Random(2)
    studio = Studio(corpus, Mix())
    asked = [["transcribe"], ["number"], ["count", "language"], ["translate", "speaking", "contents", "transcribe"]]
    heard = [audio_dialogue(random, studio.spoken(random), tasks) for tasks in asked for _ in range(2)]
    return [*heard, *(repair_dialogue(random) for _ in range(4)), *(small_talk(random) for _ in range(4))]


def encode(processor: Qwen2AudioProcessor, dialogues: list[Dialogue]) -> dict[str, Tensor]:
    """What the processor makes of whole dialogues."""
    return processor(
        text=[processor.apply_chat_template(dialogue.messages(), tokenize=False) for dialogue in dialogues],
        audio=[dialogue.samples for dialogue in dialogues if dialogue.samples is not None] or None,
        sampling_rate=SAMPLE_RATE,
        return_tensors="pt",
        padding=True,
        padding_side="right",
    )


def beeps(times: list[tuple[float, float]], duration_s: float) -> np.ndarray:
    """A tone where a word is, and silence elsewhere."""
    seconds = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    sounding = sum(((seconds >= start) & (seconds < end)) for start, end in times)
    return (0.5 * np.sin(2 * np.pi * 440 * seconds) * sounding).astype(np.float32)


@pytest.fixture(scope="module")
def beeped() -> Dialogue:
    """Two words, at 0.4 and at 1.6 seconds."""
    heard = Answer("Elephants dancing.", (Timed(0, 9, 0.4, 0.98), Timed(10, 18, 1.6, 2.18)))
    turns = (Turn("contents", "What?", heard.within('He says: "', '"'), "after"), Turn("transcribe", "And?", heard))
    return Dialogue(turns, None, beeps([(0.4, 0.98), (1.6, 2.18)], 3), heard.within(" ", ""))


def row_of(processor: Qwen2AudioProcessor, dialogue: Dialogue, lag_s: float = LAG_S) -> Row:
    return DialogueEncoder(processor, lag_s).row(dialogue)


def test_the_tokens_are_the_processors(processor: Qwen2AudioProcessor, dialogues: list[Dialogue]) -> None:
    for dialogue in dialogues:
        assert row_of(processor, dialogue).tokens == encode(processor, [dialogue])["input_ids"][0].tolist()


@pytest.mark.parametrize("length", [3200, 3201, 3359, 3360, 3361, 3520, 3680, 3681, 4000, 47_999])
def test_audio_of_any_length_has_as_many_tokens_as_the_processor_says(
    processor: Qwen2AudioProcessor, dialogues: list[Dialogue], length: int
) -> None:
    dialogue = replace(dialogues[0], samples=np.zeros(length, np.float32))
    assert row_of(processor, dialogue).tokens == encode(processor, [dialogue])["input_ids"][0].tolist()


@torch.no_grad()
def test_the_short_forward_pass_is_the_one_on_30_seconds(
    model: ChatModel, processor: Qwen2AudioProcessor, dialogues: list[Dialogue]
) -> None:
    heard = [dialogue for dialogue in dialogues if dialogue.samples is not None]
    inputs = encode(processor, heard)
    batch = collate([row_of(processor, dialogue) for dialogue in heard], pad_token(processor))
    assert torch.equal(batch.tokens, inputs["input_ids"])
    states = model.encode(batch.mel, batch.frames)
    valid = torch.arange(states.shape[1]) < torch.tensor([positions_of(int(n)) for n in batch.frames])[:, None]
    logits = model.hidden_states(batch.tokens, states[valid])[-1] @ model.vocabulary_weight.T
    expected, attended = model.inner(**inputs).logits, inputs["attention_mask"].bool()
    assert torch.allclose(logits[attended], expected[attended], atol=1e-3 * float(expected.std()), rtol=0)


def test_a_deeper_model_says_the_same_until_it_is_taught(
    model: ChatModel, processor: Qwen2AudioProcessor, whisper: Path, tmp_path: Path
) -> None:
    export(model, processor, tmp_path)
    tokens = torch.randint(0, 400, (2, 40), generator=torch.Generator().manual_seed(0))
    as_it_was, deeper = load_model(tmp_path, whisper), load_model(tmp_path, whisper, SMOKE.size.layers + 2)
    assert len(deeper.inner.model.language_model.layers) == deeper.config.text_config.num_hidden_layers == 5
    states = deeper.hidden_states(tokens, None)
    assert torch.equal(states[-1], as_it_was.hidden_states(tokens, None)[-1])
    states[-1].square().sum().backward()
    taught = deeper.inner.model.language_model.layers[-1]
    assert taught.self_attn.o_proj.weight.grad.abs().max() > 0
    assert taught.mlp.down_proj.weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_guided_heads_are_the_models(model: ChatModel) -> None:
    tokens = torch.randint(0, 400, (2, 40), generator=torch.Generator().manual_seed(0))
    states = model.hidden_states(tokens, None)
    language_model = model.inner.model.language_model
    model.inner.set_attn_implementation("eager")
    attentions = language_model(inputs_embeds=states[0], output_attentions=True).attentions
    model.inner.set_attn_implementation("sdpa")
    for layer, head in ((0, 1), (1, 0), (2, 0)):
        weights = model.attention_scores(states[layer], layer, head).exp()
        assert torch.allclose(weights, attentions[layer][:, head], atol=1e-5)
        assert weights.std() > 0.01


def test_the_labels_are_all_that_the_assistant_says(processor: Qwen2AudioProcessor, dialogues: list[Dialogue]) -> None:
    for dialogue in dialogues:
        row = row_of(processor, dialogue)
        labelled = [label for label in row.labels if label != IGNORED]
        assert all(label in (token, IGNORED) for label, token in zip(row.labels, row.tokens, strict=True))
        assert processor.tokenizer.decode(labelled) == "".join(turn.answer.text + TURN_END for turn in dialogue.turns)


def test_spans_lie_where_the_words_sound(processor: Qwen2AudioProcessor, beeped: Dialogue) -> None:
    row = row_of(processor, beeped, lag_s=0)
    first = row.tokens.index(processor.tokenizer.convert_tokens_to_ids(AUDIO))
    spoken = [token for token, span in zip(row.tokens, row.spans, strict=True) if span[0] >= 0]
    assert processor.tokenizer.decode(spoken) == 2 * "Elephants dancing."
    assert beeped.samples is not None
    spans = [(start - first, end - first) for start, end in row.spans if start >= 0]
    for start, end in spans:
        part = beeped.samples[start * 640 : (end + 1) * 640]
        assert np.abs(part).max() > 0.4
        assert end - start <= 0.6 * POSITIONS_PER_S + 1
    assert {min(spans)[0], max(spans)[1]} == {int(0.4 * POSITIONS_PER_S), int(2.18 * POSITIONS_PER_S)}


def test_a_span_goes_on_after_the_word(processor: Qwen2AudioProcessor, beeped: Dialogue) -> None:
    ends = [[end for _, end in row_of(processor, beeped, lag_s).spans if end >= 0] for lag_s in (0, 0.2)]
    assert {later - end for end, later in zip(*ends, strict=True)} == {5}


def test_each_heard_token_stands_behind_its_sound(processor: Qwen2AudioProcessor, beeped: Dialogue) -> None:
    row = row_of(processor, beeped)
    first = row.tokens.index(processor.tokenizer.convert_tokens_to_ids(AUDIO))
    places = [place for place, token in enumerate(row.heard) if token != IGNORED]
    assert [row.heard[place] for place in places] == processor.tokenizer(beeped.heard.text)["input_ids"]
    assert {row.tokens[place] for place in places} == {row.tokens[first]}
    assert beeped.samples is not None
    for place in places:
        before = beeped.samples[(place - first - 1) * 640 : (place - first) * 640]
        assert np.abs(before).max() > 0.4
    assert places[-1] - first == int(2.18 * POSITIONS_PER_S) + 1


def test_batches_keep_every_row_and_do_not_mix_kinds(processor: Qwen2AudioProcessor, corpus: Corpus) -> None:
    stream = training_dialogues(Random(3), Studio(corpus, Mix()), Mix(), lambda: 1.0)
    rows = [row_of(processor, next(stream)) for _ in range(48)]
    made = list(batches(rows, Random(0), positions=800, sorted_at_once=48, pad=pad_token(processor)))
    assert sum(len(batch.tokens) for batch in made) == 48
    for batch in made:
        assert (batch.frames > 0).all() if batch.mel is not None else (batch.frames == 0).all()
        assert batch.tokens.numel() < 2 * 800 or len(batch.tokens) == 1
    wanted = sorted(sum(label != IGNORED for label in row.labels) for row in rows)
    assert sorted(int(n) for batch in made for n in (batch.labels != IGNORED).sum(1)) == wanted


@pytest.mark.parametrize(("fraction", "learns"), [(0.1, False), (0.9, True)])
def test_the_encoder_learns_late(
    model: ChatModel, processor: Qwen2AudioProcessor, dialogues: list[Dialogue], fraction: float, learns: bool
) -> None:
    loss = ChatLoss(model, replace(SMOKE, encoder_frozen_until=0.5), lambda: fraction, "cpu")
    model.zero_grad()
    value, parts = loss(collate([row_of(processor, dialogue) for dialogue in dialogues[:3]], pad_token(processor)))
    value.backward()
    assert set(parts) == {"answers", "heard", "attention"}
    assert all(part.isfinite() and part > 0 for part in parts.values())
    assert (model.inner.model.audio_tower.conv1.weight.grad is not None) == learns
    assert model.inner.model.multi_modal_projector.linear.weight.grad is not None


def test_the_loss_without_audio_is_the_models_own(
    model: ChatModel, processor: Qwen2AudioProcessor, dialogues: list[Dialogue]
) -> None:
    batch = collate([row_of(processor, dialogue) for dialogue in dialogues[-8:]], pad_token(processor))
    _, parts = ChatLoss(model, SMOKE, lambda: 0.0, "cpu")(batch)
    assert list(parts) == ["text", "reading"]
    assert torch.allclose(parts["text"], model.inner(input_ids=batch.tokens, labels=batch.labels).loss, atol=1e-4)


def test_attention_costs_what_falls_outside_of_the_span(model: ChatModel) -> None:
    tokens = torch.randint(0, 400, (1, 12), generator=torch.Generator().manual_seed(1))
    states = model.hidden_states(tokens, None)
    spans = torch.full((1, 12, 2), -1)
    assert guided_attention(model, states, spans, 1, 0) == 0
    spans[0, 9] = torch.tensor([2, 4])  # token 9 is predicted at position 8
    inside = model.attention_scores(states[1], 1, 0).exp()[0, 8, 2:5].sum()
    assert torch.allclose(guided_attention(model, states, spans, 1, 0), -inside.log())


def test_every_row_of_the_table_is_measured(model: ChatModel, processor: Qwen2AudioProcessor, corpus: Corpus) -> None:
    figures = measure(model.inner, processor, corpus, 1, Random(0))
    rows = [*AUDIO_TASKS, "second_turn", "no_speech", "repair", "small_talk"]
    assert [row for row in figures if not row.endswith("_wer")] == rows
    assert all(0 <= figures[row] <= 1 for row in rows)
