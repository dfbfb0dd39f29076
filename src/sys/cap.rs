//! capset(2) and the capability prctls: like the `caps` crate's setters, but in one call for three
//! sets and with the errno kept.

use super::check;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn halves(set: u64) -> [u32; 2] {
    // Truncation is the point: the kernel takes the low and the high word apart.
    #[allow(clippy::cast_possible_truncation)]
    [set as u32, (set >> 32) as u32]
}

/// Sets this process's three sets, bit masks by capability number (capset(2)).
pub(crate) fn set(effective: u64, permitted: u64, inheritable: u64) -> nix::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let ([el, eh], [pl, ph], [il, ih]) =
        (halves(effective), halves(permitted), halves(inheritable));
    let data = [
        Data {
            effective: el,
            permitted: pl,
            inheritable: il,
        },
        Data {
            effective: eh,
            permitted: ph,
            inheritable: ih,
        },
    ];
    // SAFETY: a version 3 header and its two data words, both whole and alive across the call.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })
        .map(drop)
}

/// This process's permitted set (capget(2)).
pub(crate) fn permitted() -> nix::Result<u64> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: a version 3 header and its two data words, both whole and alive across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_mut(&mut header),
            data.as_mut_ptr(),
        )
    })?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

fn prctl(option: libc::c_int, arg2: u64, arg3: u64) -> nix::Result<libc::c_int> {
    // SAFETY: these prctls take integers, as unsigned long, and touch no memory.
    nix::errno::Errno::result(unsafe { libc::prctl(option, arg2, arg3, 0u64, 0u64) })
}

/// Drops capability `number` from the bounding set (PR_CAPBSET_DROP).
pub(crate) fn drop_bounding(number: u8) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0).map(drop)
}

/// Empties the ambient set (PR_CAP_AMBIENT_CLEAR_ALL).
pub(crate) fn clear_ambient() -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
    .map(drop)
}

/// Raises capability `number` in the ambient set; EPERM: not both permitted and inheritable.
pub(crate) fn raise_ambient(number: u8) -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(number),
    )
    .map(drop)
}
