"""docs/slack.md, step by step, as far as it goes without Slack: what it tells people to type works, and what it lists is what there is."""

import re
from pathlib import Path

import pytest
import yaml
from installation import Installation, wait_until
from slack_person import Person
from slack_server import APP_TOKEN, BOT_TOKEN, CLIENT_ID, CLIENT_SECRET, SIGNING_SECRET, FakeSlack

from bot.faces import configured_faces
from core.errors import InvalidInputError
from core.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "slack.md").read_text()
OURS = {
    "STATIONMASTER_SLACK_BOT_TOKEN": BOT_TOKEN,
    "STATIONMASTER_SLACK_APP_TOKEN": APP_TOKEN,
    "STATIONMASTER_SLACK_SIGNING_SECRET": SIGNING_SECRET,
    "STATIONMASTER_SLACK_CLIENT_ID": CLIENT_ID,
    "STATIONMASTER_SLACK_CLIENT_SECRET": CLIENT_SECRET,
}


def files_of_the_page() -> list[list[str]]:
    """The names in each `.env` that the page shows: for Socket Mode, over HTTP for one workspace, and for many."""
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    return [[line.strip().partition("=")[0] for line in block.strip().splitlines()] for block in blocks]


def write(folder: Path, names: list[str], **other: str) -> Path:
    values = {name: OURS[name] for name in names} | other
    path = folder / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def table_under(heading: str) -> list[str]:
    """The first column of the table of a section."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [row.split("|")[1].strip() for row in section.splitlines() if row.startswith("|")][2:]


def test_with_the_file_of_the_page_the_bot_connects_and_answers(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with FakeSlack() as slack:
        write(tmp_path, files_of_the_page()[0], STATIONMASTER_SLACK_API_URL=slack.api_url)
        try:
            process = installation.start("bot")
            wait_until(lambda: slack.connected() or process.poll() is not None, 60)
            Person(slack, lambda: None).command("/train", "detection")
            wait_until(lambda: "Which dataset?" in str(slack.channels["C0000MAIN"].messages), 30)
        finally:
            installation.end()
        assert slack.violations == [] and "Traceback" not in installation.said()


@pytest.mark.parametrize("wrong", ["STATIONMASTER_SLACK_BOT_TOKEN", "STATIONMASTER_SLACK_APP_TOKEN"])
def test_a_token_that_slack_does_not_take_is_named_at_once(tmp_path: Path, wrong: str) -> None:
    with FakeSlack() as slack:
        write(tmp_path, files_of_the_page()[0], STATIONMASTER_SLACK_API_URL=slack.api_url, **{wrong: "xoxb-copied-badly"})
        answer = Installation(tmp_path).run("bot")
    assert answer.returncode == 1
    assert f"Slack does not take {wrong}: invalid_auth." in " ".join(answer.stderr.split()) and "Traceback" not in answer.stderr


@pytest.mark.parametrize("number", range(3), ids=["socket mode", "http", "many"])
def test_each_file_of_the_page_is_whole_and_needs_each_of_its_lines(tmp_path: Path, number: int) -> None:
    names = files_of_the_page()[number]
    settings = Settings(_env_file=write(tmp_path, names), home=tmp_path)  # type: ignore[call-arg]
    assert [face.name for face in configured_faces(settings)] == ["slack"]
    for name in names:
        halved = Settings(_env_file=write(tmp_path, [other for other in names if other != name]), home=tmp_path)  # type: ignore[call-arg]
        with pytest.raises(InvalidInputError, match="configured by half"):
            configured_faces(halved)


def test_every_setting_that_the_page_names_is_one() -> None:
    named = set(re.findall(r"STATIONMASTER_(\w+)", PAGE))
    assert named <= {name.upper() for name in Settings.model_fields}
    assert {name.upper() for name in Settings.model_fields if name.startswith("slack_")} <= named


def test_the_scopes_and_commands_of_the_page_are_those_of_the_manifest() -> None:
    manifest = yaml.safe_load((ROOT / "manifest.yaml").read_text())
    scopes = [scope for row in table_under("Scopes and events of the manifest") for scope in re.findall(r"`([^`]+)`", row)]
    assert sorted(scopes) == sorted(manifest["oauth_config"]["scopes"]["bot"])
    can = " ".join(table_under("What people can do"))
    assert set(re.findall(r"`(/[\w-]+)", can)) == {item["command"] for item in manifest["features"]["slash_commands"]}
    assert all(f"*{item['name']}*" in can for item in manifest["features"]["shortcuts"])


def test_the_addresses_of_the_page_are_those_that_the_bot_serves() -> None:
    over_http = (ROOT / "manifest-http.yaml").read_text()
    # tests/bot/slack/test_http.py goes to all three
    assert set(re.findall(r"https://your\.host(/[\w/]+)", PAGE + over_http)) == {"/slack/events", "/slack/install", "/slack/oauth_redirect"}


def test_links_and_files_of_the_page_are_there() -> None:
    files = re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", PAGE)
    for file in filter(None, (link or picture for link, picture in files)):
        assert file.startswith("http") or (ROOT / "docs" / file).exists(), file
    for file in re.findall(r"`((?:tests|tools)/[\w/]+\.py)`", PAGE):
        assert (ROOT / file).exists(), file
