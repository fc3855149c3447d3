//! Any bytes as a PDF, read in this process: no endless loop, no overflowing stack, no panic of our own.
//!
//! Two things that the child process of the program bounds are bounded here by other means, so that the search goes on:
//! a panic of the interpreter is a fault that `read` gives back, and so is memory beyond 256 MiB.

#![no_main]
#![feature(alloc_error_hook)]

use std::alloc::{GlobalAlloc, Layout, System, set_alloc_error_hook};
use std::panic::{set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use mantissa_lab::document::pdf::{Event, read};

const BOUND: usize = 256 << 20;
const OUT_OF_MEMORY: &str = "the memory bound is met";

struct Bounded(AtomicUsize);

// SAFETY: every block comes from `System` and goes back to it; only the sum of their sizes is kept beside.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.0.fetch_add(layout.size(), Relaxed) + layout.size() > BOUND {
            self.0.fetch_sub(layout.size(), Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise about `block` and `layout` is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded(AtomicUsize::new(0));
static HOOKS: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    HOOKS.call_once(|| {
        set_alloc_error_hook(|_| panic!("{OUT_OF_MEMORY}"));
        // The fuzzer ends the process at any panic; let those pass that are not ours.
        let abort = take_hook();
        set_hook(Box::new(move |panic| {
            let place = panic.location().map_or("", |place| place.file());
            let memory = panic.payload().downcast_ref::<String>().is_some_and(|said| said == OUT_OF_MEMORY);
            if !memory && !place.contains("/.cargo/registry/") {
                abort(panic);
            }
        }));
    });
    // The end mark is the first check; without it nothing else would be reached.
    let mut pages = Vec::new();
    let _ = read([bytes, b"\n%%EOF"].concat(), 50, 1 << 20, |event| pages.push(event));
    for event in pages {
        if let Event::Page(page) = event {
            assert!(page.unmapped <= page.glyphs);
            assert_eq!(page.text.trim(), page.text);
        }
    }
});
