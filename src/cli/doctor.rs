//! What this machine can do, and why not more.

use super::{Common, output};
use crate::command::checkup::checkup;
use crate::torch::{Device, Precision};

pub(super) fn doctor(common: &Common) -> anyhow::Result<()> {
    if let Some(threads) = common.threads {
        crate::torch::set_threads(threads);
    }
    let device = Device::open(common.device)?;
    let precision = Precision::choose(common.precision, device)?;
    let checkup = checkup(device, precision);
    if common.json {
        return output::json(&checkup);
    }
    let rows = vec![
        vec!["unsee".to_owned(), checkup.version],
        vec![
            "libtorch".to_owned(),
            format!("{} in {}", checkup.libtorch_version, checkup.libtorch),
        ],
        vec!["device".to_owned(), checkup.device],
        vec![
            "CUDA".to_owned(),
            checkup.why_no_cuda.map_or_else(|| "works".to_owned(), |why| format!("no: {why}")),
        ],
        vec!["threads".to_owned(), checkup.threads.to_string()],
        vec!["processor".to_owned(), checkup.processor],
        vec![
            "16-bit".to_owned(),
            format!(
                "avx512f {}, avx512_bf16 {}, amx_bf16 {}",
                yes(checkup.features.avx512f),
                yes(checkup.features.avx512_bf16),
                yes(checkup.features.amx_bf16)
            ),
        ],
        vec!["precision".to_owned(), checkup.precision.to_string()],
        vec!["miniature".to_owned(), checkup.miniature],
        vec!["judge".to_owned(), checkup.judge],
        vec!["free disk here".to_owned(), format!("{} GiB", checkup.free_disk >> 30)],
    ];
    output::rows(&["", ""], rows, &[]);
    Ok(())
}

fn yes(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}
