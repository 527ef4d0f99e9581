//! Writing a secret so that neither a power cut nor another user gets between: the file is complete
//! and on the disk, of mode 0600, or it is as it was before.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes a file that was not there. One that is there, also one that appeared meanwhile, is left
/// alone: [`ErrorKind::AlreadyExists`].
pub fn create_secret_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let unfinished = write_beside(path, content)?;
    // A link, unlike a rename, refuses to replace.
    let linked = fs::hard_link(&unfinished, path);
    let removed = fs::remove_file(&unfinished);
    linked.and(removed)?;
    sync_folder(path)
}

/// Writes a file in the place of another, if there is one. Readers see the old or the new.
pub fn replace_secret_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = write_beside(path, content)?;
    if let Err(error) = fs::rename(&unfinished, path) {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    sync_folder(path)
}

/// Makes a new name in a folder durable; without it a power cut may take the whole file back.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A synced file of mode 0600 beside `path`. Nothing of it stays when writing fails.
fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = folder(path);
    fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder.join(format!(".{name}.{}-{count}.tmp", process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = match options.open(&unfinished) {
            // Left behind by a process of the same number that was cut off.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            other => other?,
        };
        match file.write_all(content).and_then(|()| file.sync_all()) {
            Ok(()) => return Ok(unfinished),
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn created_once_and_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/secret");
        create_secret_file(&path, b"one").unwrap();
        let again = create_secret_file(&path, b"two").unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace_secret_file(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        replace_secret_file(&home.path().join("deep/new"), b"x").unwrap();
        assert_eq!(entries(path.parent().unwrap()), 2, "nothing unfinished is left");
    }

    #[test]
    fn of_many_that_create_at_once_one_does() {
        let home = tempfile::tempdir().unwrap();
        let path = &home.path().join("secret");
        let made: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u8)
                .map(|n| scope.spawn(move || create_secret_file(path, &[n]).is_ok()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
        let winner = made.iter().position(|made| *made).unwrap();
        assert_eq!(fs::read(path).unwrap(), [u8::try_from(winner).unwrap()]);
        assert_eq!(entries(home.path()), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("folder");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(replace_secret_file(&path, b"x").is_err(), "a folder is in the way");
        assert_eq!(entries(home.path()), 1);
        assert!(create_secret_file(Path::new("/"), b"x").is_err());
        assert!(replace_secret_file(Path::new(".."), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        fs::write(&path, "open to all").unwrap();
        replace_secret_file(&path, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
