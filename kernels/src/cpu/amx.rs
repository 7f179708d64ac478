//! Whether the matrix registers of AMX may be used: the CPU must have them, and the operating system allow them.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this CPU has AMX for int8 and bf16, and Linux lets this process use it. The call requests the permission; once granted it holds for
/// all threads of the process and for its children. From then on the state that a signal saves is 8 KB larger. Linux refuses alternate signal
/// stacks that cannot hold it, and refuses the request while a thread has such a stack. On a thread that has used the registers, the signal
/// stack that the standard library sets up is too small to report a stack overflow: the process then ends by SIGSEGV without a message.
pub(crate) fn permitted() -> bool {
    static GRANTED: AtomicBool = AtomicBool::new(false);
    // A refusal is not remembered, because its reason may be temporary.
    if GRANTED.load(Ordering::Relaxed) {
        return true;
    }
    // Under tools/check_amx.sh the instructions are emulated in software, so no permission is needed.
    let granted = cfg!(trivec_emulated_amx) || (has_amx() && request());
    GRANTED.store(granted, Ordering::Relaxed);
    granted
}

/// Whether the CPU has AMX for int8 and bf16, whatever the operating system allows.
fn has_amx() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // Leaf 7 of `cpuid` is read only if leaf 0 says that the CPU has it.
    __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8
}

/// Asks Linux for permission to use the matrix registers (`ARCH_REQ_XCOMP_PERM` of `XFEATURE_XTILEDATA`), and returns whether it is granted. Linux
/// refuses if it has not enabled the registers, so XCR0 need not be read.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn request() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: a system call that touches no memory of this process; it overwrites `rcx` and `r11`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn request() -> bool {
    false
}
