"""The files that install and run the project agree with it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr
from ruamel.yaml import YAML

from core.settings import Settings

ROOT = Path(__file__).parents[2]
WORKER_ONLY_SECRETS = ("slack", "discord")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as Python values, anchors and merges resolved."""
    parsed: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    return parsed


def _environment_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_compose_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose, json.loads(schema.read_text()))


def test_what_the_compose_file_promises(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"valkey", "postgres", "migrate", "bot", "worker-gpu", "worker-light"}
    start = "\n".join(services["valkey"]["command"])
    assert all(word in start for word in ("appendonly yes", "appendfsync everysec", "noeviction", "requirepass"))
    for name in set(services) - {"migrate"}:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name
        assert services[name]["volumes"], name
    gpu = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    for name in ("worker-gpu", "worker-light"):
        assert services[name]["stop_grace_period"] == "3m"
        # Only the bot holds chat tokens.
        assert "env_file" not in services[name]
        assert not [key for key in services[name]["environment"] if any(secret in key.lower() for secret in WORKER_ONLY_SECRETS)]


def test_every_variable_of_the_compose_file_is_a_setting_or_a_password_of_the_example(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = _environment_file(ROOT / ".env.example")
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", text)) <= set(example)
    known = {f"STATIONMASTER_{name.upper()}" for name in Settings.model_fields}
    for name, service in compose["services"].items():
        assert {key for key in service["environment"] if key.startswith("STATIONMASTER_")} <= known, name


def test_every_container_is_told_the_same(compose: dict[str, Any]) -> None:
    """Whoever holds the lease does the duties of all: a setting that only the bot knew would hold sometimes."""
    paths = {"WEIGHTS_DIR", "PRESETS_DIR", "CACHE_DIR"}  # of one host; in the containers they lie under the home
    faces = ("SLACK_", "DISCORD_", "ANNOUNCEMENT_", "CHAT_")
    wanted = {name for name in map(str.upper, Settings.model_fields) if name not in paths and not name.startswith(faces)}
    assert {key.removeprefix("STATIONMASTER_") for key in compose["x-settings"]} == wanted


def test_the_example_names_every_setting_with_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STATIONMASTER_{name.upper()}", raising=False)
    example = _environment_file(ROOT / ".env.example")
    passwords = {"VALKEY_PASSWORD", "POSTGRES_PASSWORD"}
    assert set(example) - passwords == {f"STATIONMASTER_{name.upper()}" for name in Settings.model_fields}
    monkeypatch.chdir(tmp_path)
    before = Settings()
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    assert Settings() == before
    assert all(not value.get_secret_value() for value in vars(before).values() if isinstance(value, SecretStr))


def test_every_dependency_is_pinned_to_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {}
    for line in lines:
        requirement = Requirement(line)
        assert requirement.url is None, line
        [specifier] = requirement.specifier
        assert specifier.operator == "==", line
        assert "+" not in specifier.version, f"{line}: a local build that no registry has"
        pins[canonicalize_name(requirement.name)] = specifier.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name != "stationmaster":
            pinned = pins.get(canonicalize_name(requirement.name))
            assert pinned is not None, f"{requirement.name} is not in constraints.txt: run `make constraints`"
            assert requirement.specifier.contains(pinned), f"{requirement.name}: {pinned} is pinned"


def test_each_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    explained = {canonicalize_name(name) for name in re.findall(r"^\| `([\w.-]+)`", text, flags=re.MULTILINE)}
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {canonicalize_name(Requirement(line).name) for line in wanted} - {"stationmaster"}
    assert explained == names


def test_the_bot_comes_without_torch_and_the_worker_without_chats() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {canonicalize_name(Requirement(line).name) for line in lines} for extra, lines in extras.items()}
    torch = {"torch", "torchvision", "timm", "torchmetrics", "transformers", "segmentation-models-pytorch"}
    assert not names["bot"] & torch
    assert not names["worker"] & {"slack-bolt", "slack-sdk", "discord-py", "typer"}


def test_the_command_line_starts_without_torch() -> None:
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm', 'torchmetrics')))\n"  # importing them fails
        "import bot.terminal.commands\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr


def test_shell_scripts_are_sound() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "tools" / "pin-constraints"):
        assert script.stat().st_mode & 0o111, f"{script} is not executable"
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_what_make_starts_keeps_compiled_modules(tmp_path: Path) -> None:
    """Nothing is compiled on installing; where the environment forbids to keep what is compiled later, each start of a worker took half a minute."""
    shows = tmp_path / "Makefile"
    shows.write_text("include Makefile\nshow:\n\t@env\n")
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", str(shows), "show"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PATH=" in done.stdout and "PYTHONDONTWRITEBYTECODE" not in done.stdout
