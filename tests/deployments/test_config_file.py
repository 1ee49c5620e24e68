import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config_file import AUDIO_BACKLOG, check_resources, load_config, local_resources
from deployments.settings import Settings
from pipelines.errors import ConfigurationError
from pipelines.voices import VoiceOptions

ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
BASE: dict[str, Any] = {
    "http_options": {"host": "127.0.0.1", "port": 8000},
    "applications": [
        {
            "name": "auricle",
            "import_path": "deployments.app:build",
            "args": {"models": [{"id": "tiny"}]},
            "deployments": [
                {"name": "ingress", "ray_actor_options": {"num_cpus": 0.25}},
                {"name": "audio", "num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}},
                {
                    "name": "asr-tiny",
                    "ray_actor_options": {"num_cpus": 1, "num_gpus": 0.5},
                    "user_config": {"max_batch_size": 4},
                },
            ],
        }
    ],
}

Change = Callable[[dict[str, Any]], Any]


def written(directory: Path, change: Change) -> Path:
    config = copy.deepcopy(BASE)
    change(config)
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def application(config: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any] = config["applications"][0]
    return only


def deployment(config: dict[str, Any], position: int) -> dict[str, Any]:
    one: dict[str, Any] = application(config)["deployments"][position]
    return one


def mistake(path: Path) -> str:
    """The sentence, which names the file first."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.message.startswith(str(path))
    return caught.value.message.removeprefix(f"{path}: ")


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_the_repository_s_configs_are_fine(path: Path) -> None:
    assert load_config(path).applications


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_every_config_has_the_thresholds_that_were_measured_of_its_voices(path: Path) -> None:
    """`models/README.md` says how."""
    for one in load_config(path).applications:
        diarization = Settings.model_validate(one.args).diarization
        assert diarization is not None
        assert diarization.source == "embedded:speaker-diarization"
        assert diarization.voices() == VoiceOptions(0.55, 0.58)


def test_a_config_is_read(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, lambda _: None))
    assert [one.name for one in config.applications[0].deployments] == ["ingress", "audio", "asr-tiny"]


def with_diarization(config: dict[str, Any], **options: Any) -> None:
    application(config)["args"].update(diarization={"source": "embedded:speaker-diarization"})
    if options:
        application(config)["deployments"].append({"name": "diarization", **options})


def test_diarization_is_a_deployment_when_it_is_configured(tmp_path: Path) -> None:
    path = written(tmp_path, lambda c: with_diarization(c, num_replicas=2, max_queued_requests=8))
    assert load_config(path).applications[0].deployments[-1].name == "diarization"


def with_chat(config: dict[str, Any], **options: Any) -> None:
    """A model that chats beside the others, and what its deployment is to be."""
    application(config)["args"]["models"].append({"id": "org/Chat-1B", "task": "chat"})
    if options:
        application(config)["deployments"].append({"name": "chat-org-Chat-1B", **options})


def unloading(config: dict[str, Any]) -> None:
    application(config)["args"]["models"][0].update(unload_after_s=300)


def test_a_model_that_is_unloaded_is_there_at_first(tmp_path: Path) -> None:
    """So its replica counts among what must fit."""
    needs(tmp_path, unloading, 2.25, 0.5)
    with pytest.raises(ConfigurationError, match=r"needs 2\.25 CPUs"):
        needs(tmp_path, unloading, 2, 0.5)


def test_a_model_that_chats_is_a_deployment_of_its_own(tmp_path: Path) -> None:
    options = {"num_replicas": 2, "max_queued_requests": 8, "user_config": {"max_batch_size": 16}}
    loaded = load_config(written(tmp_path, lambda c: with_chat(c, **options))).applications[0].deployments[-1]
    assert (loaded.name, loaded.num_replicas, loaded.user_config) == ("chat-org-Chat-1B", 2, {"max_batch_size": 16})


def test_a_server_may_only_chat(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        application(config)["args"] = {"models": [{"id": "a", "task": "chat", "name": "b"}]}
        deployment(config, 2).update(name="chat-b")

    assert load_config(written(tmp_path, change)).applications[0].deployments[2].name == "chat-b"


@pytest.mark.parametrize("name", ["embedded", "gpu", "ultravox"])
def test_every_config_for_one_machine_tells_speakers_apart(name: str) -> None:
    (only,) = load_config(ROOT / "configs" / f"{name}.yaml").applications
    assert "diarization" in [one.name for one in only.deployments]
    aliases = [alias for model in only.args["models"] for alias in model.get("aliases", [])]
    assert "gpt-4o-transcribe-diarize" in aliases


def test_speech_speakers_and_chat_share_one_gpu() -> None:
    config = load_config(ROOT / "configs" / "gpu.yaml")
    shares = {
        one.name: one.ray_actor_options.num_gpus or 0.0
        for one in config.applications[0].deployments
        if one.ray_actor_options
    }
    assert shares == {
        "ingress": 0,
        "audio": 0,
        "asr-openai-whisper-large-v3-turbo": 0.4,
        "diarization": 0.2,
        "chat-qwen2-audio": 0.4,
    }
    check_resources(config, num_cpus=6, num_gpus=1)
    with pytest.raises(ConfigurationError, match=r"needs 1 GPUs to start, but there are 0\.5"):
        check_resources(config, num_cpus=6, num_gpus=0.5)


def scaled(position: int, policy: Any) -> Change:
    """By a policy; a deployment's `num_replicas` would be one thing too many."""
    return lambda c: (
        deployment(c, position).pop("num_replicas", None),
        deployment(c, position).update(autoscaling_config={"max_replicas": 4, "policy": policy}),
    )


def by_audio(**kwargs: Any) -> dict[str, Any]:
    return {"policy_function": AUDIO_BACKLOG, "policy_kwargs": kwargs}


def test_a_deployment_may_scale_by_audio(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, scaled(2, by_audio(target_wait_s=20))))
    diarization = {"max_replicas": 4, "policy": by_audio(target_wait_s=60)}
    assert load_config(written(tmp_path, lambda c: with_diarization(c, autoscaling_config=diarization)))


MISTAKES: list[tuple[Change, str]] = [
    (lambda c: deployment(c, 0).update(num_replica=2), "Unknown key 'num_replica' in deployment 'ingress'."),
    (
        lambda c: deployment(c, 2).update(ray_actor_options={"num_gpu": 1}),
        "Unknown key 'num_gpu' in ray_actor_options of 'asr-tiny'.",
    ),
    (
        lambda c: deployment(c, 2).update(name="asr-base"),
        "There is no deployment 'asr-base'; there are: asr-tiny, audio, ingress.",
    ),
    (
        lambda c: application(c).update(args={"models": [{"id": "tiny", "engine": "x"}]}),
        "Unknown engine 'x': use 'transformers' or 'module:Class'.",
    ),
    (
        lambda c: application(c)["args"].update(limits={"max_upload": 5}),
        "Unknown key 'limits.max_upload'.",
    ),
    (
        lambda c: deployment(c, 2).update(user_config={"max_batch_size": 0}),
        "max_batch_size: Input should be greater than or equal to 1.",
    ),
    (
        lambda c: application(c)["deployments"].append({"name": "diarization"}),
        "There is no deployment 'diarization'; there are: asr-tiny, audio, ingress.",
    ),
    (
        lambda c: (with_diarization(c), deployment(c, 2).update(name="diarize")),
        "There is no deployment 'diarize'; there are: asr-tiny, audio, diarization, ingress.",
    ),
    (
        lambda c: with_diarization(c, ray_actor_options={"num_gpu": 1}),
        "Unknown key 'num_gpu' in ray_actor_options of 'diarization'.",
    ),
    (
        lambda c: application(c)["args"].update(diarization={"source": "x", "sauce": "y"}),
        "Unknown key 'diarization.sauce'.",
    ),
    (
        lambda c: application(c)["args"]["models"][0].update(aliases=["gpt-4o-transcribe-diarize"]),
        "'gpt-4o-transcribe-diarize' tells speakers apart, which needs 'diarization' beside 'models'.",
    ),
    (
        lambda c: (with_chat(c), deployment(c, 2).update(name="asr-org-Chat-1B")),
        "There is no deployment 'asr-org-Chat-1B'; there are: asr-tiny, audio, chat-org-Chat-1B, ingress.",
    ),
    (
        lambda c: with_chat(c, user_config={"max_batch_size": 0}),
        "max_batch_size: Input should be greater than or equal to 1.",
    ),
    (
        lambda c: with_chat(c, user_config={"max_batch_size": 8, "max_batch": 4}),
        "max_batch: Extra inputs are not permitted.",
    ),
    (
        lambda c: with_chat(c, ray_actor_options={"num_gpu": 1}),
        "Unknown key 'num_gpu' in ray_actor_options of 'chat-org-Chat-1B'.",
    ),
    (lambda c: with_chat(c, user_confg={}), "Unknown key 'user_confg' in deployment 'chat-org-Chat-1B'."),
    (
        lambda c: application(c)["args"]["models"].append({"id": "a", "task": "talk"}),
        "models.1: There is no such task: use 'transcription' or 'chat'.",
    ),
    (
        lambda c: application(c)["args"]["models"].append({"id": "a", "task": "chat", "max_audio": 1}),
        "Unknown key 'models.1.max_audio'.",
    ),
    (scaled(2, by_audio()), "target_wait_s: Field required."),
    (scaled(2, by_audio(target_wait_s=-1)), "target_wait_s: Input should be greater than 0."),
    (scaled(2, by_audio(target_wait_s=20, speed=3)), "speed: Extra inputs are not permitted."),
    (scaled(2, {**by_audio(target_wait_s=20), "kwargs": {}}), "Unknown key 'kwargs' in policy."),
    (
        scaled(1, by_audio(target_wait_s=20)),
        f"{AUDIO_BACKLOG} is for deployments that hear: 'audio' measures no audio.",
    ),
    (scaled(2, {"policy_function": AUDIO_BACKLOG.replace(":", ".")}), "target_wait_s: Field required."),
    (
        lambda c: application(c).update(autoscaling_policy=by_audio(target_wait_s=20)),
        f"{AUDIO_BACKLOG} is for one deployment: say it in its 'autoscaling_config'.",
    ),
    (scaled(2, {"policy_function": "nowhere:Policy"}), "autoscaling_config.policy: No module named 'nowhere'."),
    (
        lambda c: with_chat(c, autoscaling_config={"policy": by_audio(target_wait_s=20)}),
        f"{AUDIO_BACKLOG} is for deployments that hear: 'chat-org-Chat-1B' measures no audio.",
    ),
    (
        lambda c: (unloading(c), deployment(c, 2).update(num_replicas=1)),
        "'tiny' has 'unload_after_s', so 'asr-tiny' cannot have 'num_replicas' as well.",
    ),
    (
        lambda c: (unloading(c), deployment(c, 2).update(autoscaling_config={"min_replicas": 0})),
        "'tiny' has 'unload_after_s', so 'asr-tiny' cannot have 'autoscaling_config' as well.",
    ),
    (
        lambda c: (with_diarization(c, num_replicas=1), application(c)["args"]["diarization"].update(unload_after_s=9)),
        "'diarization' has 'unload_after_s', so 'diarization' cannot have 'num_replicas' as well.",
    ),
    (lambda c: application(c)["args"].update(media={"hosts": ["a"]}), "Unknown key 'media.hosts'."),
    (
        lambda c: application(c)["args"].update(media={"allowed_hosts": ["minio:9000"]}),
        "'minio:9000' is no host that files could be fetched from.",
    ),
    *(
        (
            lambda c, origin=origin: application(c)["args"].update(cors={"allow_origins": [origin]}),
            f"'{origin}' is no origin of web pages: they are like 'https://app.example' or 'http://localhost:3000', in "
            "small letters, and have no path, nor the port that goes without saying; '*' is all of them.",
        )
        for origin in ("https://app.example/", "https://App.example", "https://app.example:443", "http://a.example:80")
    ),
    (
        lambda c: deployment(c, 2).update(ray_actor_options={"num_gpus": 1.5}),
        "'asr-tiny' asks for 1.5 GPUs: from one on it must be whole GPUs.",
    ),
    (
        lambda c: deployment(c, 0).update(user_config={"max_batch_size": 8}),
        "'ingress' does not batch: leave its 'user_config' out.",
    ),
    (
        lambda c: application(c).update(route_prefix="/speech"),
        "It answers at '/': leave 'route_prefix' out, and put a proxy before it instead.",
    ),
    (
        lambda c: c["http_options"].update(root_path="/speech"),
        "It answers at '/': leave 'root_path' out, and put a proxy before it instead.",
    ),
    (
        lambda c: application(c)["args"].update(limits={"max_session_s": float("inf")}),
        "limits.max_session_s: Input should be a finite number.",
    ),
    (
        lambda c: application(c).update(runtime_env={"env_vars": {"AURICLE_API_KEYS": "a-key"}}),
        "AURICLE_API_KEYS in a 'runtime_env' would stand in Ray's logs: set it where Ray is started on the nodes, or "
        "put the keys into a file and name that by AURICLE_API_KEYS_FILE.",
    ),
    (
        lambda c: deployment(c, 0)["ray_actor_options"].update(runtime_env={"env_vars": {"HF_TOKEN": "a-token"}}),
        "HF_TOKEN in a 'runtime_env' would stand in Ray's logs: set it where Ray is started on the nodes.",
    ),
    (lambda c: c["http_options"].update(port=65_536), "There is no port 65536: 'port' is from 1 to 65535."),
    (lambda c: c.pop("applications"), "applications: Field required."),
    (lambda c: deployment(c, 2).pop("name"), "applications.0.deployments.2.name: Field required."),
]


@pytest.mark.parametrize(("change", "sentence"), MISTAKES)
def test_every_mistake_is_one_sentence(tmp_path: Path, change: Change, sentence: str) -> None:
    assert mistake(written(tmp_path, change)) == sentence


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c.update(aplications=[]), "aplications"),
        (lambda c: c["http_options"].update(prot=8000), "prot"),
        (lambda c: application(c).update(route_prefx="/"), "route_prefx"),
        (lambda c: deployment(c, 1).update(autoscaling_config={"max_replica": 2}, num_replicas="auto"), "max_replica"),
        (lambda c: deployment(c, 2).update(user_config={"max_batch": 4}), "max_batch"),
    ],
)
def test_no_unknown_key_is_ignored(tmp_path: Path, change: Change, key: str) -> None:
    assert key in mistake(written(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(applications=None),
        lambda c: c.update(applications=[]),
        lambda c: c.update(applications="auricle"),
        lambda c: c.update(applications=["auricle"]),
        lambda c: application(c).update(args=None),
        lambda c: application(c).update(args="models"),
        lambda c: application(c).pop("args"),
        lambda c: application(c).update(deployments="audio"),
        lambda c: application(c).update(deployments=["audio"]),
        lambda c: application(c).update(deployments={"audio": {"num_replicas": 1}}),
        lambda c: application(c)["deployments"].append({"name": "audio"}),
        lambda c: deployment(c, 0).update(ray_actor_options="num_cpus"),
        lambda c: deployment(c, 0).update(ray_actor_options={"num_cpus": -1}),
        lambda c: deployment(c, 0).update(num_replicas="many"),
        lambda c: deployment(c, 2).update(user_config="fast"),
    ],
)
def test_whatever_is_malformed_is_a_sentence(tmp_path: Path, change: Change) -> None:
    assert mistake(written(tmp_path, change))[0].isalnum()


@pytest.mark.parametrize("text", ["", "auricle", "- 1\n- 2\n", "a: [", "a:\n\t- b"])
def test_what_is_no_config_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    mistake(path)


def test_bytes_that_are_no_text_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00\xe4")
    mistake(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    assert mistake(tmp_path / "none.yaml") == "No such file or directory."
    assert mistake(tmp_path) == "Is a directory."


def needs(directory: Path, change: Change, num_cpus: float, num_gpus: float) -> None:
    check_resources(load_config(written(directory, change)), num_cpus, num_gpus)


def test_enough_is_enough(tmp_path: Path) -> None:
    needs(tmp_path, lambda _: None, 2.25, 0.5)


def test_too_few_cpus(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        needs(tmp_path, lambda _: None, 2, 1)
    assert caught.value.message == (
        "This configuration needs 2.25 CPUs to start, but there are 2: "
        "lower num_cpus or the number of replicas under 'deployments'."
    )


def test_too_few_gpus(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 0\.5 GPUs to start, but there are 0"):
        needs(tmp_path, lambda _: None, 8, 0)


@pytest.mark.parametrize(
    ("shares", "num_gpus", "fits"),
    [
        ([0.7, 0.7, 0.6], 2, False),
        ([0.6, 0.4, 0.7, 0.3], 2, True),
        ([0.3, 0.3, 0.4], 1, True),
        ([2, 0.5], 3, True),
        ([2, 0.7, 0.7, 0.6], 4, False),
    ],
)
def test_every_share_has_room_on_one_gpu(tmp_path: Path, shares: list[float], num_gpus: int, fits: bool) -> None:
    def sharing(config: dict[str, Any]) -> None:
        config["applications"][0]["args"]["models"] = [
            {"id": f"m{number}", "name": f"m{number}", "source": "x"} for number in range(len(shares))
        ]
        config["applications"][0]["deployments"] = [
            {"name": f"asr-m{number}", "ray_actor_options": {"num_cpus": 0, "num_gpus": share}}
            for number, share in enumerate(shares)
        ]

    if fits:
        needs(tmp_path, sharing, 8, num_gpus)
    else:
        with pytest.raises(ConfigurationError, match=f"do not fit into {num_gpus} of them"):
            needs(tmp_path, sharing, 8, num_gpus)


def test_what_autoscaling_starts_with_counts(tmp_path: Path) -> None:
    def scaled(**autoscaling: int) -> Change:
        return lambda c: (
            deployment(c, 1).pop("num_replicas"),
            deployment(c, 1).update(autoscaling_config={"max_replicas": 50, **autoscaling}),
        )

    needs(tmp_path, scaled(min_replicas=4), 3.25, 1)
    needs(tmp_path, scaled(min_replicas=0, initial_replicas=4), 3.25, 1)
    needs(tmp_path, scaled(min_replicas=0), 1.25, 1)
    needs(tmp_path, scaled(), 1.75, 1)
    with pytest.raises(ConfigurationError, match=r"needs 3\.25 CPUs"):
        needs(tmp_path, scaled(min_replicas=4), 3, 1)


def test_deployments_that_are_not_named_count_with_what_the_code_gives_them(tmp_path: Path) -> None:
    def bare(config: dict[str, Any]) -> None:
        application(config).update(deployments=[], args={"models": [{"id": "a"}, {"id": "b"}, {"id": "c"}]})

    needs(tmp_path, bare, 3.75, 0)
    with pytest.raises(ConfigurationError, match=r"needs 3\.75 CPUs"):
        needs(tmp_path, bare, 2, 0)


def test_the_diarizer_counts(tmp_path: Path) -> None:
    share = {"num_cpus": 0.5, "num_gpus": 0.25}
    needs(tmp_path, lambda c: with_diarization(c, num_replicas=2, ray_actor_options=share), 3.25, 1)
    with pytest.raises(ConfigurationError, match=r"needs 1 GPUs"):
        needs(tmp_path, lambda c: with_diarization(c, num_replicas=2, ray_actor_options=share), 3.25, 0.75)
    with pytest.raises(ConfigurationError, match=r"needs 3\.25 CPUs"):
        needs(tmp_path, with_diarization, 3, 1)


def test_the_chat_model_counts(tmp_path: Path) -> None:
    share = {"num_cpus": 0.5, "num_gpus": 0.25}
    needs(tmp_path, lambda c: with_chat(c, num_replicas=2, ray_actor_options=share), 3.25, 1)
    with pytest.raises(ConfigurationError, match=r"needs 1 GPUs"):
        needs(tmp_path, lambda c: with_chat(c, num_replicas=2, ray_actor_options=share), 3.25, 0.75)
    with pytest.raises(ConfigurationError, match=r"needs 3\.25 CPUs"):
        needs(tmp_path, with_chat, 3, 1)
    asleep = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 2}
    needs(tmp_path, lambda c: with_chat(c, autoscaling_config=asleep, ray_actor_options=share), 2.25, 0.5)


def test_a_deployment_without_actor_options_counts_with_what_the_code_gives_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 2\.25 CPUs"):
        needs(tmp_path, lambda c: deployment(c, 2).pop("ray_actor_options"), 2, 0)


def test_serve_gives_a_cpu_to_whom_the_actor_options_give_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 2\.25 CPUs"):
        needs(tmp_path, lambda c: deployment(c, 2).update(ray_actor_options={"num_gpus": 1}), 2, 1)


def test_this_machine_has_a_cpu() -> None:
    num_cpus, num_gpus = local_resources()
    assert num_cpus >= 1
    assert num_gpus >= 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7"])
def test_who_listens_to_others_says_whether_they_need_keys(tmp_path: Path, host: str) -> None:
    def listening(config: dict[str, Any], **args: Any) -> None:
        config["http_options"]["host"] = host
        config["applications"][0]["args"].update(args)

    with pytest.raises(ConfigurationError, match="say 'require_api_key: true' in args and set AURICLE_API_KEYS"):
        load_config(written(tmp_path, listening))
    for answer in (True, False):
        path = written(tmp_path, partial(listening, require_api_key=answer))
        assert load_config(path).http_options.host == host


def test_haproxy_s_statistics_are_not_shown_to_others_by_a_server_that_listens_on_loopback(tmp_path: Path) -> None:
    def behind_haproxy(config: dict[str, Any], host: str) -> None:
        config["http_options"]["host"] = host
        config["applications"][0]["args"].update(haproxy=True, require_api_key=True)

    with pytest.raises(ConfigurationError, match=r"on 127\.0\.0\.1 only, but HAProxy would show its statistics"):
        load_config(written(tmp_path, partial(behind_haproxy, host="127.0.0.1")))
    assert load_config(written(tmp_path, partial(behind_haproxy, host="0.0.0.0"))).applications
