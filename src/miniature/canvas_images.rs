//! Canvas pictures in memory, by cell.

use crate::canvas::{self, Object, Pose, SIDE, Style};
use crate::torch::{Device, Kind, Tensor};
use crate::watch::Watch;

/// Pictures of every style × object, `per_cell` of each; picture `i` of cell `c` is row
/// `c·per_cell + i`.
#[derive(Debug)]
pub(super) struct CanvasImages {
    pixels: Tensor,
    per_cell: i64,
}

/// Cells of the canvas, in the order of rows: style by style.
pub(super) fn cells() -> impl Iterator<Item = (Style, Object)> {
    Style::ALL.iter().flat_map(|&style| Object::ALL.iter().map(move |&object| (style, object)))
}

/// How many cells there are.
pub(super) fn cell_count() -> i64 {
    (Style::ALL.len() * Object::ALL.len()) as i64
}

impl CanvasImages {
    /// Draws pictures 0 to `per_cell - 1` of each cell of the canvas under a seed, on all
    /// processors.
    ///
    /// # Panics
    /// Where a thread that draws panics.
    pub(super) fn draw(canvas_seed: u64, per_cell: u32, pose: Pose, watch: &mut dyn Watch) -> Self {
        let cells: Vec<(Style, Object)> = cells().collect();
        watch.begin("drawing the canvas", cells.len() as u64);
        let size = SIDE * SIDE * 3;
        let mut bytes = vec![0_u8; cells.len() * per_cell as usize * size];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut done = 0;
        for (cells, rows) in
            cells.chunks(threads).zip(bytes.chunks_mut(threads * per_cell as usize * size))
        {
            std::thread::scope(|scope| {
                for (&(style, object), rows) in
                    cells.iter().zip(rows.chunks_mut(per_cell as usize * size))
                {
                    scope.spawn(move || {
                        for (i, row) in rows.chunks_mut(size).enumerate() {
                            row.copy_from_slice(&canvas::draw_posed(
                                canvas_seed,
                                style,
                                object,
                                i as u32,
                                pose,
                            ));
                        }
                    });
                }
            });
            done += cells.len() as u64;
            watch.at(done, "");
        }
        watch.end();
        let side = SIDE as i64;
        let pixels =
            Tensor::from_slice(&bytes).view([-1, side, side, 3]).permute([0, 3, 1, 2]).contiguous();
        Self { pixels, per_cell: i64::from(per_cell) }
    }

    /// Rows `[n]` as `[n, 3, 64, 64]` in [-1, 1].
    pub(super) fn pictures(&self, rows: &Tensor, device: Device) -> Tensor {
        self.pixels.index_select(0, rows).to_device(device.tch()).to_kind(Kind::Float) / 127.5 - 1.0
    }

    /// All rows in order, in batches.
    pub(super) fn batches(&self, size: i64) -> impl Iterator<Item = Tensor> {
        let n = self.len();
        (0..n).step_by(size as usize).map(move |start| {
            Tensor::arange_start(start, (start + size).min(n), (Kind::Int64, tch::Device::Cpu))
        })
    }

    /// How many pictures.
    pub(super) fn len(&self) -> i64 {
        self.pixels.size()[0]
    }

    /// Pictures of each cell.
    pub(super) fn per_cell(&self) -> i64 {
        self.per_cell
    }
}
