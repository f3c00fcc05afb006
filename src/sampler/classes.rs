//! diffusers' schedulers by class: which solver each is here, and what is done about each of its
//! fields.

use super::Solver;
use crate::fields::{Class, Field, OF_DIFFUSERS, Rule};

/// A scheduler that is built here.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) class: Class,
    pub(super) solver: Solver,
}

const COMMON: &[Field] = &[
    ("_class_name", Rule::Honoured),
    ("num_train_timesteps", Rule::Honoured),
    ("beta_start", Rule::Honoured),
    ("beta_end", Rule::Honoured),
    (
        "beta_schedule",
        Rule::Only(
            &["\"linear\"", "\"scaled_linear\"", "\"squaredcos_cap_v2\""],
            "with another one the network would see other noise than it was trained on",
        ),
    ),
    ("trained_betas", Rule::Honoured),
    (
        "prediction_type",
        Rule::Only(
            &["\"epsilon\"", "\"v_prediction\""],
            "such a network is not Stable Diffusion 1.x or 2.x",
        ),
    ),
    ("steps_offset", Rule::Honoured),
    (
        "timestep_spacing",
        Rule::Only(
            &["\"leading\"", "\"trailing\"", "\"linspace\""],
            "diffusers knows no other either",
        ),
    ),
    // diffusers' PNDM, Heun and LMS do not look at it; it says how the network was trained.
    ("rescale_betas_zero_snr", Rule::Honoured),
    ("use_flow_sigmas", Rule::Only(&["null", "false"], FLOW)),
];

const FLOW: &str = "it is a flow-matching model, which is no Stable Diffusion 1.x or 2.x";
const PIXELS: &str = "dynamic thresholding is for pixels and spoils latents; set it to false";
const LEVELS: &str =
    "other noise levels than the schedule's own and Karras' are not built; set it to false";
const LAST: &str = "the last step goes to no noise at all here, as in Stable Diffusion; choose \
    another one with --sampler";
const ORDER: &str =
    "only the second-order multistep of DPM-Solver++ is built; choose another one with --sampler";

const DDIM: &[Field] = &[
    ("clip_sample", Rule::Honoured),
    ("clip_sample_range", Rule::Honoured),
    ("set_alpha_to_one", Rule::Honoured),
    ("thresholding", Rule::Only(&["null", "false"], PIXELS)),
];

const PNDM: &[Field] = &[
    ("set_alpha_to_one", Rule::Honoured),
    (
        "skip_prk_steps",
        Rule::Only(
            &["true"],
            "Runge-Kutta steps are not built: set it to true, as Stable Diffusion's schedulers do, \
             or choose another one with --sampler",
        ),
    ),
];

const KARRAS: Field = ("use_karras_sigmas", Rule::Honoured);
const EXPONENTIAL: Field = ("use_exponential_sigmas", Rule::Only(&["null", "false"], LEVELS));
const BETA: Field = ("use_beta_sigmas", Rule::Only(&["null", "false"], LEVELS));

const DPM: &[Field] = &[
    KARRAS,
    EXPONENTIAL,
    BETA,
    ("use_lu_lambdas", Rule::Only(&["null", "false"], LEVELS)),
    ("use_dynamic_shifting", Rule::Only(&["null", "false"], FLOW)),
    ("solver_order", Rule::Only(&["2"], ORDER)),
    ("algorithm_type", Rule::Only(&["\"dpmsolver++\""], ORDER)),
    ("solver_type", Rule::Only(&["\"midpoint\""], ORDER)),
    ("thresholding", Rule::Only(&["null", "false"], PIXELS)),
    ("final_sigmas_type", Rule::Only(&["\"zero\""], LAST)),
    (
        "lower_order_final",
        Rule::Harmless("a last step to no noise is of the first order whatever it says"),
    ),
    ("euler_at_final", Rule::Harmless("a last step to no noise is Euler's whatever it says")),
    (
        "lambda_min_clipped",
        Rule::Only(
            &["\"-Infinity\"", "null"],
            "a schedule that is cut off is not built; leave it out",
        ),
    ),
    (
        "variance_type",
        Rule::Only(&["null"], "the network would predict a variance too, which is not read"),
    ),
];

const EULER: &[Field] = &[
    KARRAS,
    EXPONENTIAL,
    BETA,
    ("interpolation_type", Rule::Only(&["\"linear\""], LEVELS)),
    (
        "timestep_type",
        Rule::Only(&["\"discrete\""], "networks that read continuous times are not built"),
    ),
    ("sigma_min", Rule::Only(&["null"], LEVELS)),
    ("sigma_max", Rule::Only(&["null"], LEVELS)),
    ("final_sigmas_type", Rule::Only(&["\"zero\""], LAST)),
];

const HEUN: &[Field] = &[
    KARRAS,
    EXPONENTIAL,
    BETA,
    ("clip_sample", Rule::Only(&["null", "false"], "latents are not clamped; set it to false")),
];

const LMS: &[Field] = &[KARRAS, EXPONENTIAL, BETA];

const ANCESTRAL: &[Field] = &[];

const OTHER: Rule = Rule::Harmless(
    "of another scheduler: a configuration keeps what it had when its class is changed",
);

/// Fields of all schedulers, for those that do not have them.
const OTHERS: &[Field] = &[
    ("algorithm_type", OTHER),
    ("clip_sample", OTHER),
    ("clip_sample_range", OTHER),
    ("disable_corrector", OTHER),
    ("dynamic_thresholding_ratio", OTHER),
    ("euler_at_final", OTHER),
    ("final_sigmas_type", OTHER),
    ("flow_shift", OTHER),
    ("interpolation_type", OTHER),
    ("lambda_min_clipped", OTHER),
    ("lower_order_final", OTHER),
    ("noise_sampler_seed", OTHER),
    ("original_inference_steps", OTHER),
    ("predict_x0", OTHER),
    ("sample_max_value", OTHER),
    ("set_alpha_to_one", OTHER),
    ("shift_terminal", OTHER),
    ("sigma_max", OTHER),
    ("sigma_min", OTHER),
    ("skip_prk_steps", OTHER),
    ("solver_order", OTHER),
    ("solver_p", OTHER),
    ("solver_type", OTHER),
    ("thresholding", OTHER),
    ("time_shift_type", OTHER),
    ("timestep_scaling", OTHER),
    ("timestep_type", OTHER),
    ("use_beta_sigmas", OTHER),
    ("use_dynamic_shifting", OTHER),
    ("use_exponential_sigmas", OTHER),
    ("use_karras_sigmas", OTHER),
    ("use_lu_lambdas", OTHER),
    ("variance_type", OTHER),
];

macro_rules! built {
    ($name:literal, $solver:ident, $fields:ident) => {
        Built {
            class: Class { name: $name, fields: &[OF_DIFFUSERS, COMMON, $fields, OTHERS] },
            solver: Solver::$solver,
        }
    };
}

/// Every class that is built.
pub(super) static BUILT: [Built; 7] = [
    built!("DDIMScheduler", Ddim, DDIM),
    built!("PNDMScheduler", Pndm, PNDM),
    built!("DPMSolverMultistepScheduler", DpmPlusPlus, DPM),
    built!("EulerDiscreteScheduler", Euler, EULER),
    built!("EulerAncestralDiscreteScheduler", EulerAncestral, ANCESTRAL),
    built!("HeunDiscreteScheduler", Heun, HEUN),
    built!("LMSDiscreteScheduler", Lms, LMS),
];

/// Classes that are not built, but whose schedule of noise is of the same kind: a solver that is
/// built can take their place.
pub(super) const REPLACEABLE: [&str; 11] = [
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
];

/// What every schedule of noise has, for a class that is not built.
pub(super) static SCHEDULE: Class =
    Class { name: "scheduler", fields: &[OF_DIFFUSERS, COMMON, OTHERS] };

/// The fields of a solver's class.
pub(super) fn of_solver(solver: Solver) -> &'static Class {
    let plain = if solver == Solver::DpmPlusPlusKarras { Solver::DpmPlusPlus } else { solver };
    BUILT.iter().find(|built| built.solver == plain).map_or(&SCHEDULE, |built| &built.class)
}
