//! Some libraries look `getrandom` up at run time: it must be found in the program, not in libc.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["getrandom", "clock_gettime"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={name}");
    }
}
