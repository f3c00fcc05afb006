//! How far an edit moves weights.

use std::collections::BTreeMap;

use crate::torch::{Kind, Tensor};

/// ‖Δ‖ / ‖W‖ of each component that an edit changes: `changed` are the edit's tensors, `names` all
/// of the model's, and `base` gives a tensor as it was.
///
/// # Errors
/// Those of `base`.
pub fn moved<E>(
    changed: &[(String, Tensor)],
    names: &[String],
    base: impl Fn(&str) -> Result<Tensor, E>,
) -> Result<Vec<(String, f64)>, E> {
    let component = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let square =
        |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let mut squares: BTreeMap<String, f64> = BTreeMap::new();
    // In one order, wherever the edit comes from: sums are the same to the bit.
    let mut tensors: Vec<&(String, Tensor)> = changed.iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in tensors {
        let before = base(name)?.to_device(tensor.device());
        let change = tensor.to_kind(Kind::Double) - before.to_kind(Kind::Double);
        *squares.entry(component(name)).or_default() += square(&change);
    }
    squares
        .into_iter()
        .map(|(part, change)| {
            let mut length = 0.0;
            for name in names.iter().filter(|name| component(name) == part) {
                length += square(&base(name)?);
            }
            let moved = if length > 0.0 { (change / length).sqrt() } else { 0.0 };
            Ok((part, moved))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_the_change_over_that_of_the_whole_component() {
        let names = ["unet.a", "unet.b", "vae.a"].map(str::to_owned);
        let base = |name: &str| {
            let values: [f32; 2] = if name == "unet.a" { [3.0, 0.0] } else { [0.0, 4.0] };
            Ok::<_, ()>(Tensor::from_slice(&values))
        };
        let changed = [("unet.a".to_owned(), Tensor::from_slice(&[3.0_f32, 0.5]))];
        let moved = moved(&changed, &names, base).unwrap();
        assert_eq!(moved.len(), 1);
        assert_eq!(moved[0].0, "unet");
        assert!((moved[0].1 - 0.1).abs() < 1e-12);
    }
}
