"""A codebook alone: read, refused, saved with the tokenizer, and seen by the language model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.clevr import ClevrDataModule
from data_modules.showing import panels
from kyvo.importing import import_image_tokenizer
from kyvo.sample import Sample
from kyvo.tokenizers.codebook import ImageCodebook
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import Backbone
from kyvo.training.language import LanguageModule
from tests.tiny_world import make_coded_world, tiny_image_tokenizer

VECTORS = np.random.default_rng(0).normal(size=(16, 4))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "released.npy", VECTORS)
    return tmp_path / "released.npy"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_file_of_any_precision_is_read_as_float32(tmp_path: Path, dtype: type):
    np.save(tmp_path / "a.npy", VECTORS.astype(dtype))
    codebook = ImageCodebook.from_pretrained(tmp_path / "a.npy").codebook
    assert codebook.dtype == torch.float32
    np.testing.assert_array_equal(codebook, VECTORS.astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4)), r"a\.npy: .* floating point \[codes, dimensions\], got float64 \[2, 3, 4\]"),
        (np.zeros((2, 3), np.int64), r"got int64 \[2, 3\]"),
        (np.zeros((0, 3)), r"got float64 \[0, 3\]"),
        (np.array([[1.0, 2.0], [0.0, np.nan]]), "must be finite; code 1 is not"),
        (np.array([{"x": 1}]), "allow_pickle=False"),
    ],
)
def test_what_is_no_codebook_is_refused(tmp_path: Path, array: np.ndarray, message: str):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        ImageCodebook.from_pretrained(tmp_path / "a.npy")


def test_a_broken_or_absent_file(tmp_path: Path):
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.npy: "):
        ImageCodebook.from_pretrained(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        ImageCodebook.from_pretrained(tmp_path / "b.npy")


def test_the_command_copies_and_reports(file: Path, tmp_path: Path):
    out = tmp_path / "out"
    report = import_image_tokenizer(out, codebook=file)
    assert report == {"folder": str(out), "codes": 16, "code_dim": 4}
    assert ImageCodebook.is_at(out)
    np.testing.assert_array_equal(ImageCodebook.from_pretrained(out).vectors, VECTORS.astype(np.float32))
    with pytest.raises(ValueError, match="--half is for networks"):
        import_image_tokenizer(out, codebook=file, half=True)


def test_a_tokenizer_keeps_its_codebook(file: Path, tmp_path: Path):
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image=file)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    import_image_tokenizer(tmp_path / "imported", codebook=file)
    for one in (
        tokenizer,
        UnifiedTokenizer.from_pretrained(tmp_path / "tokenizer"),
        UnifiedTokenizer.from_preset("quickstart", image=tmp_path / "imported"),
        UnifiedTokenizer.from_preset("quickstart", image=ImageCodebook(VECTORS)),
    ):
        assert one.image is None
        assert one.vocabulary.image_codes == 16
        assert one.image_grid == (8, 8)
        np.testing.assert_array_equal(one.image_codebook, VECTORS.astype(np.float32))
    with pytest.raises(ValueError, match="image_codes = 512 does not fit the image tokenizer, which has 16"):
        UnifiedTokenizer.from_preset("quickstart", image=file, image_codes=512)


def test_a_whole_image_tokenizer_has_a_codebook_too():
    tokenizer = UnifiedTokenizer.from_preset("quickstart", image=tiny_image_tokenizer())
    assert tokenizer.image is tiny_image_tokenizer()
    assert torch.equal(tokenizer.image_codebook, tiny_image_tokenizer().codebook)
    assert UnifiedTokenizer.from_preset("quickstart").image_codebook is None


def test_a_language_model_sees_the_codebook(file: Path):
    def projected(image: object) -> torch.Tensor:
        torch.manual_seed(0)
        tokenizer = UnifiedTokenizer.from_preset("quickstart", image=image, image_grid=(4, 4))
        module = LanguageModule(tokenizer, Backbone(hidden_size=16, layers=1, heads=2), total_steps=1)
        module.configure_model()
        return module.model.embedding(torch.tensor(list(tokenizer.vocabulary.image_range)))

    whole = tiny_image_tokenizer()
    alone = ImageCodebook(whole.codebook.numpy())
    assert torch.equal(projected(alone), projected(whole))
    assert not torch.equal(projected(alone), projected(file))


def test_coded_shards_train_with_a_codebook_alone(tmp_path: Path):
    make_coded_world(tmp_path, edits=0)
    alone = UnifiedTokenizer.from_preset(
        "quickstart", image=ImageCodebook(tiny_image_tokenizer().codebook.numpy()), image_grid=(4, 4)
    )
    data = ClevrDataModule(str(tmp_path), alone, tasks={"3-I": 1.0}, batch_size=4, epoch_batches=1)
    data.prepare_data()
    data.setup("fit")
    (batch, *_) = data.train_dataloader()
    assert batch.uncoded is None
    assert ((batch.ids >= alone.vocabulary.image_range.start).sum(1) >= 16).all()
    shown = panels(Sample("a", image=np.arange(16)), alone)
    assert shown["image"] == "16 codes and no picture"
