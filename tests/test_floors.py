"""Imports go down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINE_FLOORS = [
    {"types", "errors", "languages"},
    {"speaker_types", "chat_types"},
    {"ports", "patience", "audio", "vad", "chunking", "whisper", "merging", "turns", "words", "voices", "subtitles"}
    | {"stops", "resuming"},
    {"transcription", "speakers", "chat"},
    {"diarization", "hearing", "realtime"},
]
RAY_FILES = {"deployment", "handles", "resources", "app", "configuration", "__main__"}


def sources(package: str) -> dict[str, Path]:
    """Module name to file; a package's own name stands for its `__init__.py`."""
    files = (ROOT / package).rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


SOURCES = {**sources("pipelines"), **sources("deployments")}
PACKAGES = {path.parent.name for path in (ROOT / "deployments").glob("*/__init__.py")}


def imports(module: str) -> set[str]:
    """Every module that a file imports, wherever in it; of `from a import b` also `a.b` when that is a module."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module
            found.add(node.module)
            found |= {name for alias in node.names if (name := f"{node.module}.{alias.name}") in SOURCES}
    return found


def edges(importer: str, imported: str) -> list[tuple[str, str]]:
    return sorted(
        (module, name)
        for module in SOURCES
        if module.split(".")[0] == importer
        for name in imports(module)
        if name.split(".")[0] == imported
    )


def package_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in PACKAGES else None


def pipeline_floor(module: str) -> int:
    name = module.split(".")[1]
    return next(floor for floor, names in enumerate(PIPELINE_FLOORS) if name in names)


def deployment_floor(module: str) -> int:
    """-1 what engines share, 0 engines, 1 settings, 2 routes, 3 handles, 4 deployments, 5 the graph and its checks,
    6 the program."""
    package, name = package_of(module), module.split(".")[-1]
    if package:
        return 4 if name == "deployment" else 2 if package == "ingress" else 0
    return {
        "batching": -1,
        "engines": -1,
        "cache": -1,
        "sampling": -1,
        "devices": -1,
        "settings": 1,
        "handles": 3,
        "resources": 3,
        "app": 5,
        "configuration": 5,
        "__main__": 6,
    }[name]


def test_there_are_sources() -> None:
    assert len(sources("pipelines")) >= 9
    assert len(sources("deployments")) >= 30
    assert {"asr", "audio", "diarization", "ingress"} <= PACKAGES
    assert edges("deployments", "pipelines")


def test_nobody_imports_tests() -> None:
    assert [edge for package in ("pipelines", "deployments") for edge in edges(package, "tests")] == []


def test_pipelines_import_numpy_and_the_standard_library_only() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "pipelines"}
    checked = [(module, name) for module in sources("pipelines") for name in imports(module)]
    assert checked
    assert [edge for edge in checked if edge[1].split(".")[0] not in allowed] == []


def test_pipelines_import_lower_floors_only() -> None:
    inside = [edge for edge in edges("pipelines", "pipelines") if "." in edge[1]]
    assert len(inside) >= 9
    assert [edge for edge in inside if pipeline_floor(edge[1]) >= pipeline_floor(edge[0])] == []


def test_every_pipeline_module_has_a_floor() -> None:
    modules = [module for module in sources("pipelines") if "." in module]
    assert modules
    assert {pipeline_floor(module) for module in modules} == {0, 1, 2, 3, 4}


def test_deployments_import_lower_floors_or_their_own_package() -> None:
    inside = edges("deployments", "deployments")
    inside = [edge for edge in inside if edge[1].count(".") and edge[1].split(".")[-1] not in PACKAGES]
    assert len(inside) >= 30
    upwards = [
        (module, name)
        for module, name in inside
        if deployment_floor(name) > deployment_floor(module)
        or (deployment_floor(name) == deployment_floor(module) and package_of(name) != package_of(module))
    ]
    assert upwards == []


def test_packages_never_import_each_other() -> None:
    between = [
        (module, name)
        for module, name in edges("deployments", "deployments")
        if package_of(module) and package_of(name) and package_of(module) != package_of(name)
    ]
    assert between == []


def test_handles_know_nothing_of_the_deployments_behind_them() -> None:
    assert imports("deployments.handles")
    assert [name for name in imports("deployments.handles") if name.split(".")[0] == "deployments"] == []


def test_only_a_deployment_imports_the_handles() -> None:
    importers = {module for module, name in edges("deployments", "deployments") if name == "deployments.handles"}
    assert importers
    assert {module.split(".")[-1] for module in importers} == {"deployment"}


def test_ray_is_imported_in_few_files() -> None:
    importers = {module for module, _ in edges("deployments", "ray")}
    assert importers
    assert {module for module in importers if module.split(".")[-1] not in RAY_FILES} == set()


def test_packages_import_nothing_by_themselves() -> None:
    files = [path for path in SOURCES.values() if path.name == "__init__.py"]
    assert len(files) >= 5
    assert [path for path in files if path.read_text()] == []


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("pipelines.diarization", {"ray", "torch", "scipy", "av"}),
        ("deployments.ingress.api, deployments.settings", {"ray", "torch", "transformers", "av", "onnxruntime"}),
        ("deployments.ingress.deployment", {"torch", "transformers", "av", "onnxruntime"}),
        ("deployments.audio.reader", {"ray", "torch", "transformers", "fastapi"}),
        ("deployments.asr.transformers_whisper", {"ray", "av", "fastapi"}),
        ("deployments.diarization.pyannote", {"ray", "av", "fastapi"}),
    ],
)
def test_a_room_pulls_in_no_other_room_s_libraries(modules: str, heavy: set[str]) -> None:
    program = f"import sys, {modules}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
