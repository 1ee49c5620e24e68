"""Imports go down only."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINE_FLOORS = [
    {"audio_types", "sampling", "errors", "languages", "characters"},
    {"transcript_types"},
    {"speaker_types", "chat_types", "transcription_events"},
    {"realtime_types"},
    {"ports", "audio", "vad", "chunking", "whisper", "merging", "turns", "words", "voices", "subtitles"} | {"stops"},
    {"segmenting", "transcription", "speakers", "chat", "agreement", "utterance"} | {"recent_audio"},
    {"live_window"},
    {"diarization", "hearing", "realtime", "live_transcription"},
    {"turn_transcription"},
]
RAY_FILES = {"deployment", "resources", "autoscaling", "app", "graph", "config_file", "launching", "address"}
RAY_ROOMS = {"remote", "compat"}

LIBRARIES = {"ray", "torch", "transformers", "pyannote"}
"""Their private names are taken in `deployments/compat/` alone."""

COMPAT = ("serve", "torch", "transformers", "pyannote")


def rooms() -> dict[str, int]:
    """Room to floor, as the table of `docs/walk.md` says: a file, or a package by its path and a slash."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "docs" / "walk.md").read_text(), re.M)
    return {room: int(floor) for floor, named in rows for room in re.findall(r"`([^`]+)`", named)}


def sources(package: str) -> dict[str, Path]:
    """Module name to file; a package's own name stands for its `__init__.py`."""
    files = (ROOT / package).rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


SOURCES = {**sources("pipelines"), **sources("models"), **sources("deployments")}
ROOMS = rooms()


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


def room_of(module: str) -> str:
    """The smallest one that holds it."""
    path = SOURCES[module].relative_to(ROOT).as_posix()
    fitting = [room for room in ROOMS if path == room or (room.endswith("/") and path.startswith(room))]
    assert fitting, f"{path} is in no room of docs/walk.md"
    return max(fitting, key=len)


def pipeline_floor(module: str) -> int:
    name = module.split(".")[1]
    return next(floor for floor, names in enumerate(PIPELINE_FLOORS) if name in names)


def test_there_are_sources() -> None:
    assert len(sources("pipelines")) >= 9
    assert len(sources("deployments")) >= 30
    assert edges("deployments", "pipelines")


def test_every_room_of_the_walk_is_there() -> None:
    assert len(ROOMS) >= 20
    assert [room for room in ROOMS if not (ROOT / room).exists()] == []


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
    assert {pipeline_floor(module) for module in modules} == set(range(len(PIPELINE_FLOORS)))


def test_rooms_import_lower_floors_or_themselves() -> None:
    between = [
        (module, name)
        for module in SOURCES
        for name in imports(module) & SOURCES.keys()
        if SOURCES[name].name != "__init__.py" and room_of(module) != room_of(name)
    ]
    assert len(between) >= 100
    assert [edge for edge in between if ROOMS[room_of(edge[1])] >= ROOMS[room_of(edge[0])]] == []


def private_names(source: str) -> set[str]:
    """What a file takes from elsewhere under a name that begins with one underscore, as far as its syntax tells."""
    tree = ast.parse(source)
    taken = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(package), names=names):
                taken |= {f"{package}.{alias.name}" for alias in names if is_private(package, alias.name)}
            case ast.Import(names=names):
                taken |= {alias.name for alias in names if is_private(alias.name)}
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass  # below, where the class is known
            case ast.Attribute(attr=name) if is_private(name):
                taken.add(ast.unparse(node))
            case ast.Call(ast.Name("getattr" | "hasattr" | "setattr"), [owner, ast.Constant(str(name)), *_]):
                if is_private(name) and ast.unparse(owner) not in ("self", "cls"):
                    taken.add(f"{ast.unparse(owner)}.{name}")
    return taken | inherited_private_names(tree)


def inherited_private_names(tree: ast.Module) -> set[str]:
    """What classes use that derive from a library's or from one of `deployments.compat`, and do not have themselves."""
    foreign = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.split(".")[0] in LIBRARIES or node.module.startswith("deployments.compat")
        for alias in node.names
    }
    used = set()
    for derived in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if not foreign & {ast.unparse(base) for base in derived.bases}:
            continue
        attributes = [node for node in ast.walk(derived) if isinstance(node, ast.Attribute) and is_private(node.attr)]
        own = {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in ast.walk(derived) if isinstance(node, ast.FunctionDef)}
        used |= {f"{derived.name}.{node.attr}" for node in attributes if node.attr not in own}
    return used


def is_private(*names: str) -> bool:
    return any(re.match(r"_[^_]", part) for name in names for part in name.split("."))


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("from ray.serve import _x, y", {"ray.serve._x"}),
        ("from ray._private import y", {"ray._private.y"}),
        ("import transformers._x as x", {"transformers._x"}),
        ("a = b.c._d.e", {"b.c._d"}),
        ("a._b = 1", {"a._b"}),
        ("getattr(a.b, '_c', None)", {"a.b._c"}),
        ("super()._a()", {"super()._a"}),
        ("class A:\n def b(self): return self._c, a.__class__, hasattr(self, '_d')", set()),
        ("from pyannote.audio import P\nclass A(P):\n def b(self): return self._c", {"A._c"}),
        ("from pyannote.audio import P\nclass A(P):\n def b(self): self._c = 1; return self._c + self._d()", {"A._d"}),
        ("from pyannote.audio import P\nclass A(P):\n def b(self): self._d()\n def _d(self): ...", set()),
    ],
)
def test_private_names_are_found(source: str, taken: set[str]) -> None:
    assert private_names(source) == taken


def test_private_names_are_taken_in_one_room_only() -> None:
    taken = {
        (module, name)
        for module, path in {**SOURCES, **sources("benchmarks")}.items()
        if not module.startswith("deployments.compat.")
        for name in private_names(path.read_text())
    }
    assert taken == set(), "put what is private into deployments/compat/, with what it is for"
    assert all(private_names(SOURCES[f"deployments.compat.{name}"].read_text()) for name in COMPAT)


def test_remote_knows_nothing_of_the_deployments_behind_it() -> None:
    remote = [module for module in SOURCES if module.startswith("deployments.remote.")]
    assert len(remote) >= 5
    others = [(module, name) for module in remote for name in imports(module) if name.startswith("deployments.")]
    assert [edge for edge in others if not edge[1].startswith(("deployments.remote", "deployments.compat"))] == []


def test_only_a_deployment_imports_remote() -> None:
    importers = {
        module
        for module, name in edges("deployments", "deployments")
        if name.startswith("deployments.remote") and not module.startswith("deployments.remote")
    }
    assert importers
    assert {module.split(".")[-1] for module in importers} == {"deployment"}


def test_ray_is_imported_in_few_files() -> None:
    importers = {module for module, _ in edges("deployments", "ray")}
    assert importers
    strangers = {module for module in importers if module.split(".")[-1] not in RAY_FILES}
    assert {module for module in strangers if module.split(".")[1] not in RAY_ROOMS} == set()


def test_packages_import_nothing_by_themselves() -> None:
    files = [path for path in SOURCES.values() if path.name == "__init__.py"]
    assert len(files) >= 5
    assert [path for path in files if path.read_text()] == []


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("pipelines.diarization", {"ray", "torch", "scipy", "av"}),
        ("deployments.ingress.api, deployments.settings", {"ray", "torch", "transformers", "av", "onnxruntime"}),
        ("deployments.ingress.deployment", {"torch", "transformers", "pyannote", "av", "onnxruntime"}),
        ("deployments.audio.reader", {"ray", "torch", "onnxruntime", "transformers", "fastapi"}),
        ("deployments.asr.whisper", {"ray", "pyannote", "av", "fastapi"}),
        ("deployments.diarization.pyannote", {"ray", "av", "fastapi"}),
        ("deployments.compat.pyannote", {"ray", "transformers", "av", "fastapi"}),
    ],
)
def test_a_room_pulls_in_no_other_room_s_libraries(modules: str, heavy: set[str]) -> None:
    program = f"import sys, {modules}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
