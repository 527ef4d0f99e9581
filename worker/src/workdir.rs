//! This process's folder for jobs. A worker that was killed leaves one behind; the next one to
//! start in the same place recognises it by its lock being free, and removes it.

use std::{fs::File, io, path::Path};
use tempfile::TempDir;

const PREFIX: &str = "penstock-worker-";
const LOCK: &str = "lock";

/// A folder that is ours until we are gone.
#[derive(Debug)]
pub struct WorkDir {
    directory: TempDir,
    /// The operating system lets go of the lock when the process ends, however it ends.
    _lock: File,
}

impl WorkDir {
    /// Makes a folder under `parent`, and removes those of workers that died.
    pub fn create(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        let parent = std::path::absolute(parent)?;
        remove_abandoned(&parent);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        Ok(Self { directory, _lock: lock })
    }

    /// A folder for one job; it goes when the value does.
    pub fn job(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("job-").tempdir_in(self.directory.path())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_abandoned(p)) {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "an old job folder cannot be removed");
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    // No lock file yet: perhaps just being made. Somebody else's file: leave it.
    ours && File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_stay_and_the_dead_go() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("penstock-worker-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        let other = parent.path().join("something-else");
        std::fs::create_dir(&other).unwrap();

        let first = WorkDir::create(parent.path()).unwrap();
        let second = WorkDir::create(parent.path()).unwrap();
        assert!(!dead.exists() && other.exists());
        assert!(first.path().exists() && second.path().exists());

        let job = first.job().unwrap();
        assert!(job.path().starts_with(first.path()));
        let gone = job.path().to_owned();
        drop(job);
        assert!(!gone.exists());
    }
}
