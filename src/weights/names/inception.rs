//! Inception-v3 for FID in the files that people have, under torchvision's names: `pytorch-fid`'s
//! weights, and the `TorchScript` that NVIDIA's `StyleGAN2` and `StyleGAN3` measure with
//! (`inception-2015-12-05.pt`), which is the same network under its graph's names and has no gain
//! behind its normalisation.

use crate::weights::{Error, View, Weights};

/// Their names and torchvision's.
type NamePairs = &'static [(&'static str, &'static str)];

/// Their convolutions of the stem, and torchvision's.
const STEM: [(&str, &str); 5] = [
    ("conv", "Conv2d_1a_3x3"),
    ("conv_1", "Conv2d_2a_3x3"),
    ("conv_2", "Conv2d_2b_3x3"),
    ("conv_3", "Conv2d_3b_1x1"),
    ("conv_4", "Conv2d_4a_3x3"),
];

/// Their blocks, torchvision's, and the kind.
const BLOCKS: [(&str, &str, NamePairs); 11] = [
    ("mixed", "Mixed_5b", FIRST),
    ("mixed_1", "Mixed_5c", FIRST),
    ("mixed_2", "Mixed_5d", FIRST),
    ("mixed_3", "Mixed_6a", HALVE_FIRST),
    ("mixed_4", "Mixed_6b", SECOND),
    ("mixed_5", "Mixed_6c", SECOND),
    ("mixed_6", "Mixed_6d", SECOND),
    ("mixed_7", "Mixed_6e", SECOND),
    ("mixed_8", "Mixed_7a", HALVE_SECOND),
    ("mixed_9", "Mixed_7b", THIRD),
    ("mixed_10", "Mixed_7c", THIRD),
];

const FIRST: NamePairs = &[
    ("conv", "branch1x1"),
    ("tower.conv", "branch5x5_1"),
    ("tower.conv_1", "branch5x5_2"),
    ("tower_1.conv", "branch3x3dbl_1"),
    ("tower_1.conv_1", "branch3x3dbl_2"),
    ("tower_1.conv_2", "branch3x3dbl_3"),
    ("tower_2.conv", "branch_pool"),
];

const HALVE_FIRST: NamePairs = &[
    ("conv", "branch3x3"),
    ("tower.conv", "branch3x3dbl_1"),
    ("tower.conv_1", "branch3x3dbl_2"),
    ("tower.conv_2", "branch3x3dbl_3"),
];

const SECOND: NamePairs = &[
    ("conv", "branch1x1"),
    ("tower.conv", "branch7x7_1"),
    ("tower.conv_1", "branch7x7_2"),
    ("tower.conv_2", "branch7x7_3"),
    ("tower_1.conv", "branch7x7dbl_1"),
    ("tower_1.conv_1", "branch7x7dbl_2"),
    ("tower_1.conv_2", "branch7x7dbl_3"),
    ("tower_1.conv_3", "branch7x7dbl_4"),
    ("tower_1.conv_4", "branch7x7dbl_5"),
    ("tower_2.conv", "branch_pool"),
];

const HALVE_SECOND: NamePairs = &[
    ("tower.conv", "branch3x3_1"),
    ("tower.conv_1", "branch3x3_2"),
    ("tower_1.conv", "branch7x7x3_1"),
    ("tower_1.conv_1", "branch7x7x3_2"),
    ("tower_1.conv_2", "branch7x7x3_3"),
    ("tower_1.conv_3", "branch7x7x3_4"),
];

const THIRD: NamePairs = &[
    ("conv", "branch1x1"),
    ("tower_conv", "branch3x3_1"),
    ("tower_mixed_conv", "branch3x3_2a"),
    ("tower_mixed_conv_1", "branch3x3_2b"),
    ("tower_1_conv", "branch3x3dbl_1"),
    ("tower_1_conv_1", "branch3x3dbl_2"),
    ("tower_1_mixed_conv", "branch3x3dbl_3a"),
    ("tower_1_mixed_conv_1", "branch3x3dbl_3b"),
    ("tower_2_conv", "branch_pool"),
];

/// What stands before all of their names.
const LAYERS: &str = "layers.";

/// The network's weights under torchvision's names.
///
/// # Errors
/// Tensors that cannot be renamed.
pub fn read_inception(file: &Weights) -> Result<Weights, Error> {
    if file.names().any(|name| name == "layers.conv.beta") {
        return file.renamed(|name| {
            from_nvidia(name).map(|ours| (ours, View::Whole)).into_iter().collect()
        });
    }
    file.renamed(|name| vec![(name.to_owned(), View::Whole)])
}

fn from_nvidia(name: &str) -> Option<String> {
    let (layer, tensor) = name.strip_prefix(LAYERS)?.rsplit_once('.')?;
    let tensor = match tensor {
        "weight" => "conv.weight",
        "beta" => "bn.bias",
        "mean" => "bn.running_mean",
        "var" => "bn.running_var",
        _ => return None,
    };
    let renamed = |list: &[(&'static str, &'static str)], name: &str| {
        list.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)
    };
    if let Some(stem) = renamed(&STEM, layer) {
        return Some(format!("{stem}.{tensor}"));
    }
    let (block, rest) = layer.split_once('.')?;
    let (_, ours, kind) = BLOCKS.iter().find(|(theirs, ..)| *theirs == block)?;
    Some(format!("{ours}.{}.{tensor}", renamed(kind, rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_convolution_has_a_name_of_its_own() {
        let all = BLOCKS.iter().flat_map(|(theirs, ours, kind)| {
            kind.iter().map(move |(a, b)| {
                (format!("layers.{theirs}.{a}.mean"), format!("{ours}.{b}.bn.running_mean"))
            })
        });
        let all: std::collections::BTreeMap<String, String> = all.collect();
        assert_eq!(all.len() + STEM.len(), 94);
        let ours: std::collections::BTreeSet<&String> = all.values().collect();
        assert_eq!(ours.len(), all.len());
        assert!(all.iter().all(|(theirs, ours)| from_nvidia(theirs).as_ref() == Some(ours)));
        assert_eq!(from_nvidia("layers.conv_4.weight").unwrap(), "Conv2d_4a_3x3.conv.weight");
        assert!(
            from_nvidia("output.weight").is_none()
                && from_nvidia("layers.mixed_11.conv.var").is_none()
        );
    }
}
