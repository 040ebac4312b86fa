//! Notices when somebody writes to files of control groups, so that limits need no look while nobody does.
//!
//! The kernel reports writes of processes by inotify(7) in the trees of both versions; what it does itself it does not
//! report, and it never changes a limit. Our own writes are reported like those of others. That a group is removed or renamed it
//! reports to whoever watches the folder that the group is in, so that is watched too.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Bytes of events that are read at once; each takes 16 and a file's name.
const BUFFER_BYTES: usize = 4_096;

/// Whoever has seen less of a group than this has to look.
const ALWAYS: u64 = u64::MAX;

/// All groups that are watched.
#[derive(Debug, Clone)]
pub struct Watch(Option<Arc<Mutex<Shared>>>);

#[derive(Debug)]
struct Shared {
    inotify: Inotify,
    groups: HashMap<WatchDescriptor, Group>,
    /// Folders with watched groups in them, by these groups' names.
    parents: HashMap<WatchDescriptor, HashMap<OsString, WatchDescriptor>>,
    /// How many reads have found something.
    count: u64,
}

#[derive(Debug)]
struct Group {
    watcher_count: usize,
    parent: WatchDescriptor,
    name: OsString,
    /// Which read found the latest write; [`ALWAYS`]: the group is gone, or the kernel watches it no longer.
    written: u64,
}

/// Groups that are watched for one workload.
#[derive(Debug)]
pub(super) struct Watched {
    shared: Arc<Mutex<Shared>>,
    groups: Vec<WatchDescriptor>,
    /// The read up to which all is known.
    seen: u64,
}

impl Default for Watch {
    /// Watches nothing yet. Where the kernel has nothing to watch with, nothing ever is.
    fn default() -> Self {
        let shared = Inotify::init().map(|inotify| Shared {
            inotify,
            groups: HashMap::new(),
            parents: HashMap::new(),
            count: 0,
        });
        if let Err(error) = &shared {
            tracing::info!(%error, "control groups cannot be watched: limits are looked at once a second");
        }
        Self(shared.ok().map(|shared| Arc::new(Mutex::new(shared))))
    }
}

impl Watch {
    /// Watches folders of control groups. None: not all of them can be watched.
    pub(super) fn groups<'a>(&self, folders: impl Iterator<Item = &'a Path>) -> Option<Watched> {
        let shared = self.0.as_ref()?;
        let mut watched = Watched { shared: Arc::clone(shared), groups: Vec::new(), seen: 0 };
        for folder in folders {
            let group = lock(shared).add(folder)?;
            watched.groups.push(group);
        }
        (!watched.groups.is_empty()).then_some(watched)
    }

    /// Takes in what the kernel has reported of all groups.
    pub(super) fn read(&self) {
        if let Some(shared) = &self.0 {
            lock(shared).read();
        }
    }
}

impl Shared {
    fn add(&mut self, folder: &Path) -> Option<WatchDescriptor> {
        // A folder may be a group and have others in it: neither takes the other's events away.
        let of_folder = WatchMask::ONLYDIR | WatchMask::MASK_ADD;
        let (above, name) = (folder.parent()?, folder.file_name()?);
        let parent = self.inotify.watches().add(above, of_folder | WatchMask::DELETE | WatchMask::MOVED_FROM).ok()?;
        let group = self.inotify.watches().add(folder, of_folder | WatchMask::MODIFY).ok()?;
        // What was reported until now is about the group that had this name before.
        self.read();
        let new = || Group { watcher_count: 0, parent: parent.clone(), name: name.to_owned(), written: 0 };
        self.groups.entry(group.clone()).or_insert_with(new).watcher_count += 1;
        self.parents.entry(parent).or_default().insert(name.to_owned(), group.clone());
        Some(group)
    }

    /// The group that has left a folder, if it is watched.
    fn gone(&mut self, parent: &WatchDescriptor, name: &OsStr) -> Option<&mut Group> {
        let group = self.parents.get(parent)?.get(name)?;
        self.groups.get_mut(group)
    }

    /// Ends watching what nobody watches any more. The kernel may have ended it already, with the folder.
    fn remove(&mut self, group: &WatchDescriptor) {
        let Some(Group { parent, name, .. }) = self.groups.remove(group) else { return };
        if let Some(names) = self.parents.get_mut(&parent) {
            names.retain(|known, watched| *known != name || watched != group);
            if names.is_empty() {
                self.parents.remove(&parent);
            }
        }
        for folder in [group, &parent] {
            if !self.groups.contains_key(folder) && !self.parents.contains_key(folder) {
                drop(self.inotify.watches().remove(folder.clone()));
            }
        }
    }

    /// Takes what the kernel has reported.
    fn read(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        while let Ok(events) = self.inotify.read_events(&mut buffer) {
            self.count += 1;
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    self.groups.values_mut().for_each(|group| group.written = group.written.max(self.count));
                } else if event.mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
                    if let Some(group) = event.name.and_then(|name| self.gone(&event.wd, name)) {
                        group.written = ALWAYS;
                    }
                } else if let Some(group) = self.groups.get_mut(&event.wd) {
                    let written = if event.mask.contains(EventMask::IGNORED) { ALWAYS } else { self.count };
                    group.written = group.written.max(written);
                }
            }
        }
    }
}

impl Watched {
    /// Whether anything was written since this was last asked, or may have been.
    pub(super) fn take(&mut self) -> bool {
        lock(&self.shared).read();
        self.take_known()
    }

    /// The same, as far as it was [read](Watch::read) for all groups.
    pub(super) fn take_known(&mut self) -> bool {
        let shared = lock(&self.shared);
        let is_written =
            self.groups.iter().any(|group| shared.groups.get(group).is_none_or(|group| group.written > self.seen));
        self.seen = shared.count;
        is_written
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        for group in &self.groups {
            let Some(known) = shared.groups.get_mut(group) else { continue };
            known.watcher_count -= 1;
            if known.watcher_count == 0 {
                shared.remove(group);
            }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_to_every_watcher_once_and_a_read_to_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids.max");
        std::fs::write(&file, "max").unwrap();
        let watch = Watch::default();
        let watched = || watch.groups([folder.path()].into_iter()).unwrap();
        let (mut one, mut other) = (watched(), watched());
        assert!(!one.take() && !other.take());
        std::fs::write(&file, "7").unwrap();
        assert!(one.take() && other.take(), "both have to look");
        std::fs::read(&file).unwrap();
        assert!(!one.take() && !other.take());
        drop(other);
        std::fs::write(&file, "8").unwrap();
        assert!(!one.take_known(), "nobody has read of it yet");
        watch.read();
        assert!(one.take_known(), "who stays is told as before");
    }

    #[test]
    fn a_group_that_cannot_be_watched_is_looked_at_always() {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::default();
        assert!(watch.groups([folder.path(), Path::new("/nowhere")].into_iter()).is_none());
        assert!(watch.groups(std::iter::empty()).is_none());
        let mut watched = watch.groups([folder.path()].into_iter()).unwrap();
        std::fs::remove_dir(folder.path()).unwrap();
        assert!(watched.take() && watched.take(), "what is gone is written for good");
    }

    #[test]
    fn a_group_that_leaves_its_folder_is_gone_whatever_takes_its_name() {
        let root = tempfile::tempdir().unwrap();
        let [outer, inner] = ["outer", "outer/inner"].map(|name| root.path().join(name));
        std::fs::create_dir_all(&inner).unwrap();
        let watch = Watch::default();
        let watched = |folder: &Path| watch.groups([folder].into_iter()).unwrap();
        let (mut of_outer, mut of_inner) = (watched(&outer), watched(&inner));
        std::fs::create_dir(outer.join("other")).unwrap();
        std::fs::remove_dir(outer.join("other")).unwrap();
        assert!(!of_outer.take() && !of_inner.take(), "others come and go");
        std::fs::rename(&inner, outer.join("away")).unwrap();
        std::fs::create_dir(&inner).unwrap();
        let mut anew = watched(&inner);
        assert!(of_inner.take() && of_inner.take() && !anew.take() && !of_outer.take());
        drop(of_inner);
        std::fs::write(outer.join("pids.max"), "7").unwrap();
        std::fs::remove_dir(&inner).unwrap();
        assert!(of_outer.take() && anew.take(), "a folder is a group and has others in it");
        drop((of_outer, anew));
        let shared = lock(watch.0.as_ref().unwrap());
        assert!(shared.groups.is_empty() && shared.parents.is_empty());
    }
}
