//! A disk that may fail, and of which the power may be cut.

use std::{
    collections::HashMap,
    fs::File,
    io::Result,
    ops::Bound,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

/// What a test does with the disk under a file, by the number of that.
static DISKS: LazyLock<Mutex<HashMap<u64, Arc<Mutex<Disk>>>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
pub(in crate::replica) struct Disk {
    /// Whether nothing can be written.
    pub(super) is_full: bool,
    /// What is on it for sure.
    synced: Vec<u8>,
    /// What was written since: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// The file, with the disk under it where a test has one.
#[derive(Debug)]
pub(in crate::replica) struct Backend {
    file: FileBackend,
    disk: Option<Arc<Mutex<Disk>>>,
}

impl Disk {
    /// Puts a disk under the file that a replica will have in a directory.
    pub(super) fn under(dir: &Path) -> Arc<Mutex<Self>> {
        let file = File::create(dir.join(crate::replica::store::FILE)).unwrap();
        let disk = Arc::new(Mutex::new(Self::default()));
        let number = file.metadata().unwrap().ino();
        DISKS.lock().unwrap().insert(number, disk.clone());
        disk
    }

    /// What a power cut now would leave: all that is synced, and of the rest what `is_kept`
    /// says, by the sector.
    pub(super) fn cut(&self, mut is_kept: impl FnMut() -> bool) -> Vec<u8> {
        let mut left = self.synced.clone();
        for (at, bytes) in &self.unsynced {
            for (number, sector) in bytes.chunks(512).enumerate() {
                if is_kept() {
                    write(&mut left, at + number * 512, sector);
                }
            }
        }
        left
    }
}

fn write(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    image.resize(image.len().max(at + bytes.len()), 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Backend {
    pub(in crate::replica) fn new(file: File) -> std::result::Result<Self, DatabaseError> {
        let number = file.metadata().map_err(redb::StorageError::Io)?.ino();
        Ok(Self {
            file: FileBackend::new(file)?,
            disk: DISKS.lock().unwrap().get(&number).cloned(),
        })
    }

    fn on_disk(&self, does: impl FnOnce(&mut Disk)) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut disk = disk.lock().unwrap();
        if disk.is_full {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        does(&mut disk);
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.on_disk(|disk| {
            let len = usize::try_from(len).unwrap();
            // as the last bytes: a file is as long as what was written into it
            if len > disk.synced.len() {
                disk.unsynced.push((len - 1, vec![0]));
            } else {
                disk.synced.truncate(len);
            }
        })?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.on_disk(|_| {})?;
        self.file.sync_data()?;
        self.on_disk(|disk| {
            for (at, bytes) in std::mem::take(&mut disk.unsynced) {
                write(&mut disk.synced, at, &bytes);
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.on_disk(|disk| {
            let at = usize::try_from(offset).unwrap();
            disk.unsynced.push((at, data.to_vec()));
        })?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
