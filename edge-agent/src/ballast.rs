//! Room on the disk that is kept for the day when there is none.
//!
//! A device whose disk is full can neither note what it is to run nor remove what fills it. So a
//! file is kept that is of no use but to be removed then; and no image is fetched that would fill
//! the disk.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

/// As large as it has to be for what the engine and this agent write meanwhile.
const SIZE: u64 = 64 << 20;
/// Nothing is fetched when less than this is free, or less than a twentieth.
const RESERVE: u64 = 256 << 20;
const RESERVE_SHARE: u64 = 20;

/// How full a file system is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) all: u64,
    pub(crate) free: u64,
}

impl Room {
    /// That of the file system that a path is on, or the nearest directory above it that is there.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stat = path.ancestors().find_map(|path| statvfs(path).ok())?;
        Some(Self { all: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
    }

    /// Whether an image may be fetched.
    pub(crate) fn is_enough(self) -> bool {
        self.free >= RESERVE.min(self.all / 4).max(self.all / RESERVE_SHARE)
    }
}

/// Makes the ballast if it is not there and there is room for it.
pub(crate) fn take(dir: &Path) {
    let is_there = fs::metadata(file(dir)).is_ok_and(|ballast| ballast.len() >= SIZE);
    let has_room = Room::of(dir).is_some_and(|room| room.free > 4 * SIZE);
    if is_there || !has_room {
        return;
    }
    if let Err(error) = make(dir) {
        tracing::warn!(%error, "there is no ballast for a full disk");
        drop_it(dir);
    }
}

/// Removes the ballast; whether there was any.
pub(crate) fn drop_it(dir: &Path) -> bool {
    let dropped = fs::remove_file(file(dir)).is_ok();
    if dropped {
        tracing::warn!("the disk is full: the ballast was dropped");
    }
    dropped
}

fn make(dir: &Path) -> io::Result<()> {
    let mut ballast = fs::File::create(file(dir))?;
    // Written, because a file with a hole takes no room.
    let block = vec![0_u8; 1 << 20];
    for _ in 0..SIZE / block.len() as u64 {
        ballast.write_all(&block)?;
    }
    ballast.sync_all()
}

fn file(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_fetched_only_onto_a_disk_with_room() {
        let room = |all: u64, free: u64| Room { all: all << 20, free: free << 20 };
        for (room, is_enough) in [
            (room(32_000, 20_000), true),
            (room(32_000, 1_600), true),
            (room(32_000, 1_500), false),
            (room(2_000, 256), true),
            (room(2_000, 255), false),
            // A small disk is not all reserve.
            (room(400, 100), true),
            (room(400, 99), false),
        ] {
            assert_eq!(room.is_enough(), is_enough, "{room:?}");
        }
    }

    #[test]
    fn the_ballast_takes_room_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        take(dir.path());
        assert_eq!(fs::metadata(file(dir.path())).unwrap().len(), SIZE);
        assert!(drop_it(dir.path()) && !drop_it(dir.path()));
    }
}
