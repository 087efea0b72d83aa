//! The one integration binary: checks that need the crate as a whole rather than a single module.

#[cfg(feature = "python")]
mod binary;
// Marked, so that Clippy allows in the checks what it allows in tests.
#[cfg(test)]
mod fuzz;
mod layers;
mod monitor;
// As above.
#[cfg(test)]
mod sizing;
// The fault matrix of the `ssm` target; `make test-aws` installs what it needs.
#[cfg(test)]
#[cfg(feature = "aws")]
mod ssm;
