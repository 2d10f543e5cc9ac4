//! System calls made inside another process.

pub mod batch;
pub mod checked;
pub mod gadget;
pub mod hijack;
pub mod inject;
pub mod once;
pub mod owned;
pub mod run;
pub mod scm_rights;
pub mod sigframe;
pub mod stub;
pub mod way_home;
