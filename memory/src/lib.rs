//! What both daemons do so that secrets do not stay in their memory, nor get
//! out of it: freed memory is zeroed, buffers that live on are wiped before
//! they are read into again, and no core file is written.

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

mod dumps;
mod wipe;

pub use dumps::keep_private;
pub use wipe::{Wiping, wipe_spare};

/// A fast allocator that zeroes what is freed.
pub type Allocator = ZeroAlloc<MiMalloc>;

/// For `#[global_allocator]` of a program that handles secrets.
pub const ALLOCATOR: Allocator = ZeroAlloc(MiMalloc);
