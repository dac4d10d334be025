import numpy as np
import pytest

from kyvo.sample import Sample
from kyvo.scene import Scene, SceneObject


def test_targets_come_first_where_there_are_any():
    before, after = Scene(), Scene((SceneObject({"shape": "cube"}),))
    sample = Sample("7", image=np.arange(4), scene=before, target_scene=after, text="Remove it", target_text="False")
    assert sample.read("scene") is before
    assert sample.write("scene") is after
    assert sample.write("image") is sample.image
    assert (sample.read("text"), sample.write("text")) == ("Remove it", "False")


def test_an_empty_target_is_a_target():
    sample = Sample("7", scene=Scene((SceneObject({"shape": "cube"}),)), target_scene=Scene(), text="a", target_text="")
    assert sample.write("scene") == Scene()
    assert sample.write("text") == ""


def test_absent_modalities_are_named():
    with pytest.raises(ValueError, match="sample '7' has no image to read"):
        Sample("7").read("image")
    with pytest.raises(ValueError, match="sample '7' has no text to write"):
        Sample("7").write("text")
