//! Linear layers at work: rows in the form that a layer's weights take ([`input`]), the product with them ([`product`]), and its tasks for the
//! threads ([`task`]). What a layer is made of is in `weights`.

mod input;
mod product;
mod task;

pub(crate) use input::{Activations, InputRows};
pub(crate) use product::Product;
pub(crate) use task::{LinearTask, run_linear};
