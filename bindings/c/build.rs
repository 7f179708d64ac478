//! Gives the shared library its soname on Linux. Its number changes with every version of the interface that breaks compiled programs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtrivec.so.1");
    }
}
