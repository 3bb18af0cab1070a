"""Whole conversations by hand: arrow keys and typed values in a real terminal, with a real training at their end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from installation import Installation
from typist import Typist

pytestmark = pytest.mark.timeout(600)


def to_the_tuning(person: Typist) -> None:
    """From /train to the hyperparameters of a small network from scratch."""
    person.choose("/train")
    person.see("How shall we go about it?")
    person.choose("[ Next ]")
    person.choose("Task type")
    person.choose("Single-label classification")
    person.choose("[ Next ]")
    person.choose("Dataset")
    person.choose("stripes")
    person.see("40 images")
    person.see("across")
    person.choose("[ Next ]")
    person.choose("How to choose")
    person.choose("Manual select")
    person.choose("Family")
    person.choose("⌕ search")
    person.type("mobilenet")
    person.choose("MobileNet")
    person.choose("Variation")
    person.choose("mobilenetv3_small_050")
    person.choose("Pre-training")
    person.choose("None (from scratch)")
    person.choose("[ Next ]")
    person.see("How shall it be tuned?")


def type_hyperparameters(person: Typist, epochs: str) -> None:
    person.choose("Tuning")
    person.choose("Manual")
    person.choose("Data loader")
    person.type("8")  # batch size
    person.type("0")  # epochs: out of range
    person.see("Training epochs (epochs) takes an integer from 1 to 200; “0” was given")
    person.type(epochs)
    person.type("25")  # validation percentage
    person.type("32")  # input size
    person.type("7")  # seed


def task_named(installation: Installation, name: str) -> dict:
    shown = installation.run("task", "show", name, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


@pytest.mark.long
def test_from_train_to_the_model_with_a_terminal_that_closes_in_mid_training(
    installation: Installation, sit_down: Callable[[], Typist], stripes: Path
) -> None:
    person = sit_down()
    to_the_tuning(person)
    type_hyperparameters(person, "200")  # long enough to be seen at work, and left, on any machine
    person.choose("Manual assignment")
    person.type("0.01")  # learning rate
    person.choose("cosine")
    person.type("")  # weight decay and momentum stay as they are
    person.type("")
    person.choose("off")  # early stop
    person.choose("[ Back ]")  # nothing is lost on the way back and forth
    person.see("Which network?")
    person.choose("[ Next ]")
    person.see("Training epochs 200")
    person.see("Learning rate 0.01")
    person.see("Early stop off")
    person.choose("[ Next ]")
    person.choose("Edit names")
    person.type("Which way do they run?")
    person.type("")
    person.type("")
    person.choose("[ Next ]")
    person.see("Validation data percentage 25 %")
    person.choose("[ Start ]")
    person.see("of 200, about", seconds=200)

    person.leave()  # the bot of this face is gone; the training is not
    person = sit_down()
    person.choose("/tasks")
    person.choose("[ Which way do they run? ]")
    if task_named(installation, "Which way do they run?")["state"] == "running":
        person.choose("[ Follow its progress ]")
        person.child.send("\r\x1b[A\r")  # keys that nobody asked for press nothing
    person.see("Result on the validation images", seconds=200)
    person.see("Majority-class baseline")

    task = task_named(installation, "Which way do they run?")
    assert task["state"] == "finished"
    assert task["metrics"]["accuracy"] >= 0.9
    assert (task["attempts"], task["jobs"]["finished"]) == (1, 1)

    person.choose("[ Test an image ]")
    person.type(str(installation.folder / "nothing.png"))
    person.see("There is no file or folder")
    person.choose("[ Test an image ]")
    person.type(str(stripes / "down" / "01.png"))
    person.see("on 01.png")
    person.choose("[ Download ]")
    person.see("Saved: ")
    assert list((installation.home / "downloads").glob("model-*.zip"))


def test_a_training_made_by_a_script_is_followed_to_its_end(
    installation: Installation, sit_down: Callable[[], Typist], stripes: Path
) -> None:
    values = [word for value in ("epochs=60", "image_size=32", "batch_size=8") for word in ("--set", value)]
    network = ["--network", "tf_efficientnet_lite0", "--pretraining", "none", "--tuning", "manual", *values]
    made = installation.run("task", "create", "--dataset", "stripes", "--name", "By a script", "--task-type", "single-label", *network)
    assert made.returncode == 0, made.stderr
    person = sit_down()
    person.choose("/tasks")
    person.choose("[ By a script ]")
    person.choose("[ Follow its progress ]")
    person.see("“By a script” is trained. It took", seconds=200)
    person.choose("[ Test an image ]")
    person.type(f"'{stripes / 'down' / '01.png'}'")
    person.see("on 01.png")


def test_a_dataset_with_a_damaged_image_is_kept_or_dropped_by_hand(
    installation: Installation, sit_down: Callable[[], Typist], stripes: Path
) -> None:
    folder = installation.folder / "half"
    shutil.copytree(stripes, folder)
    (folder / "down" / "broken.png").write_bytes(b"no picture")
    person = sit_down()
    person.choose("/datasets")
    person.choose("[ Import a dataset ]")
    person.type("half")
    person.type(str(installation.folder / "nowhere"))
    person.see("There is no file or folder")
    person.type("")  # what was typed before is still there
    person.type(str(folder))
    person.see("broken.png")
    person.see("Of “half” 40 images can be used")
    person.choose("[ Keep")
    person.see("“half” is kept: 40 images")


def test_a_conversation_left_in_the_middle_goes_on_in_another_terminal(sit_down: Callable[[], Typist]) -> None:
    person = sit_down()
    to_the_tuning(person)
    person.choose("Tuning")
    person.choose("Grid search")
    person.choose("Values to try")
    person.write("0.1, 0.01")
    person.see("2 learning rates × 1 weight decay × 1 momentum = 2 training jobs")
    person.type("0.1, 0.01, 2")
    person.see("Learning rates (learning_rate) takes up to 6 numbers from 0.000001 to 1, separated by commas; “0.1, 0.01, 2” was given")
    person.type("0.1, 0.01, 0.001, 0.2, 0.02, 0.002")
    person.type("0, 0.01, 0.02")
    person.write("0.7, 0.8, 0.9")
    person.see("6 learning rates × 3 weight decays × 3 momenta = 54 training jobs; a task has at most 48")
    person.type("0.8, 0.9")
    person.see("= 36 training jobs")
    type_hyperparameters(person, "3")
    person.leave()

    person = sit_down()
    person.see("You have an unfinished conversation.")
    person.choose("Go on with it")
    person.see("Training epochs 3")
    person.see("Batch size 8")
    # As the greeting says: out of a list to the page, from the page to the main menu, and /train goes on with it.
    person.choose("Tuning")
    person.press_control_c()
    person.see("Your turn")
    person.press_control_c()
    person.see("Left for later")
    person.see("What would you like to do?")
    person.choose("/train")  # the unfinished one is offered, not lost behind a new one
    person.choose("Go on with it")
    person.choose("[ Cancel ]")
    person.choose("Go on with it")
    person.choose("[ Cancel ]")
    person.choose("Throw it away")
    person.see("ancelled")
    person.choose("/quit")
