// Two pairs of operations in one pass each, for CPUs: group normalisation with SiLU behind it on
// channels-last activations, and the gated GELU of a transformer's feed-forward layer.
//
// Convolutions in bf16 are up to twice as fast channels-last, but libtorch's group norm is then 24 times
// slower (7.6 against 0.3 ms for 52×128×16×16), and its SiLU and GELU cost more than the norm. Arithmetic
// here is f32 throughout. What a thread computes does not depend on how many there are.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/chunk.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

#define INLINE static inline __attribute__((always_inline))

// The loops are plain; the compiler vectorises a version of each for three kinds of processor, and `name`
// takes the one for this.
#define FOR_EACH_PROCESSOR(name, body, parameters, arguments)                                              \
  template <typename T>                                                                                    \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void name##_avx512 parameters {            \
    body arguments;                                                                                        \
  }                                                                                                        \
  template <typename T>                                                                                    \
  __attribute__((target("avx2,fma"))) void name##_avx2 parameters {                                        \
    body arguments;                                                                                        \
  }                                                                                                        \
  template <typename T>                                                                                    \
  void name parameters {                                                                                   \
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&                        \
        __builtin_cpu_supports("avx512vl"))                                                                \
      name##_avx512 arguments;                                                                             \
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))                              \
      name##_avx2 arguments;                                                                               \
    else                                                                                                   \
      body arguments;                                                                                      \
  }

namespace {

// ---- arithmetic that vectorises ---------------------------------------------------------------

INLINE uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

INLINE float from_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

// bf16 is the upper half of f32.
struct Brain {
  uint16_t upper;
};

INLINE float get(const float* at) { return *at; }
INLINE float get(const Brain* at) { return from_bits(static_cast<uint32_t>(at->upper) << 16); }
INLINE void put(float* at, float x) { *at = x; }
INLINE void put(Brain* at, float x) { at->upper = static_cast<uint16_t>((bits(x) + 0x8000) >> 16); }

// e^x = 2^n · e^r with |r| ≤ ½ ln 2; within 2e-7 of itself for f32, 5e-5 for bf16.
template <typename T>
INLINE float exponential(float x) {
  const float magic = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float shifted = x * 1.44269504f + magic;
  float n = shifted - magic;
  float p;
  if constexpr (std::is_same_v<T, Brain>) {
    float r = x - n * 0.693147181f;
    p = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f + r * 4.16666667e-2f)));
  } else {
    float r = x - n * 0.693145752f - n * 1.42860677e-6f;
    p = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
  }
  return p * from_bits((bits(shifted) << 23) + (127u << 23));  // the magic's own bits are shifted out
}

// 1 / x for x ≥ 1: Newton's steps from a guess at the exponent. A division costs several times as much and
// was two thirds of the whole norm.
template <typename T>
INLINE float reciprocal(float x) {
  float y = from_bits(0x7EF311C7u - bits(x));
  y = y * (2.0f - x * y);
  y = y * (2.0f - x * y);
  return std::is_same_v<T, Brain> ? y : y * (2.0f - x * y);
}

template <typename T>
INLINE float sigmoid(float x) {
  return reciprocal<T>(1.0f + exponential<T>(-x));
}

// Φ(x), the normal distribution function, within 1e-7 (Abramowitz & Stegun 7.1.26). `density` gets φ(x).
template <typename T>
INLINE float normal(float x, float* density) {
  float z = (x < 0.0f ? -x : x) * 0.707106781f;
  float t = reciprocal<T>(1.0f + 0.3275911f * z);
  float e = exponential<T>(-z * z);
  float tail = 0.5f * e * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  *density = 0.398942280f * e;
  return x < 0.0f ? tail : 1.0f - tail;
}

// ---- group norm -------------------------------------------------------------------------------

// Some groups of one picture: `rows` pixels of `width` channels, a pixel every `stride` values.
struct Slab {
  int64_t rows, width, stride, group;  // `group`: channels of a group
  bool silu;
};

// Scratch: 3 · width.
template <typename T>
INLINE void norm_forward(const Slab s, const T* x, const float* weight, const float* bias, float eps, T* y,
                         float* mean, float* rstd, float* scratch) {
  float *sum = scratch, *scale = scratch + s.width, *shift = scratch + 2 * s.width;
  const float count = static_cast<float>(s.rows * s.group);
  for (int64_t j = 0; j < s.width; j++) sum[j] = 0.0f;
  for (int64_t i = 0; i < s.rows; i++)
    for (int64_t j = 0; j < s.width; j++) sum[j] += get(x + i * s.stride + j);
  for (int64_t g = 0; g < s.width / s.group; g++) {
    float total = 0.0f;
    for (int64_t j = 0; j < s.group; j++) total += sum[g * s.group + j];
    mean[g] = total / count;
    for (int64_t j = 0; j < s.group; j++) shift[g * s.group + j] = mean[g];
  }
  for (int64_t j = 0; j < s.width; j++) sum[j] = 0.0f;
  for (int64_t i = 0; i < s.rows; i++)
    for (int64_t j = 0; j < s.width; j++) {
      float d = get(x + i * s.stride + j) - shift[j];
      sum[j] += d * d;
    }
  for (int64_t g = 0; g < s.width / s.group; g++) {
    float total = 0.0f;
    for (int64_t j = 0; j < s.group; j++) total += sum[g * s.group + j];
    rstd[g] = 1.0f / std::sqrt(total / count + eps);
    for (int64_t j = g * s.group; j < (g + 1) * s.group; j++) {
      scale[j] = weight[j] * rstd[g];
      shift[j] = bias[j] - mean[g] * scale[j];
    }
  }
  for (int64_t i = 0; i < s.rows; i++) {
    const T* from = x + i * s.stride;
    T* to = y + i * s.stride;
    if (s.silu)
      for (int64_t j = 0; j < s.width; j++) {
        float z = get(from + j) * scale[j] + shift[j];
        put(to + j, z * sigmoid<T>(z));
      }
    else
      for (int64_t j = 0; j < s.width; j++) put(to + j, get(from + j) * scale[j] + shift[j]);
  }
}

// With x̂ = (x - mean)·rstd, z = x̂·w + b and δ = ∂L/∂z: ∂L/∂w = Σ δ x̂, ∂L/∂b = Σ δ and
// ∂L/∂x = rstd (δw - ⟨δw⟩ - x̂ ⟨δw x̂⟩), means over the group. Scratch: (rows + 4) · width.
template <typename T>
INLINE void norm_backward(const Slab s, const T* dy, const T* x, const float* weight, const float* bias,
                          const float* mean, const float* rstd, T* dx, float* dweight, float* dbias, float* scratch) {
  float *m = scratch, *r = m + s.width, *a = r + s.width, *b = a + s.width, *delta = b + s.width;
  const float count = static_cast<float>(s.rows * s.group);
  for (int64_t j = 0; j < s.width; j++) {
    m[j] = mean[j / s.group];
    r[j] = rstd[j / s.group];
    dweight[j] = dbias[j] = 0.0f;
  }
  for (int64_t i = 0; i < s.rows; i++) {
    const T *from = x + i * s.stride, *pull = dy + i * s.stride;
    float* row = delta + i * s.width;
    if (s.silu)
      for (int64_t j = 0; j < s.width; j++) {
        float z = (get(from + j) - m[j]) * r[j] * weight[j] + bias[j];
        float p = sigmoid<T>(z);
        row[j] = get(pull + j) * p * (1.0f + z * (1.0f - p));
      }
    else
      for (int64_t j = 0; j < s.width; j++) row[j] = get(pull + j);
    for (int64_t j = 0; j < s.width; j++) dbias[j] += row[j];
    for (int64_t j = 0; j < s.width; j++) dweight[j] += row[j] * (get(from + j) - m[j]) * r[j];
  }
  for (int64_t g = 0; g < s.width / s.group; g++) {
    float first = 0.0f, second = 0.0f;
    for (int64_t j = g * s.group; j < (g + 1) * s.group; j++) {
      first += dbias[j] * weight[j];
      second += dweight[j] * weight[j];
    }
    for (int64_t j = g * s.group; j < (g + 1) * s.group; j++) {
      a[j] = first / count;
      b[j] = second / count;
    }
  }
  for (int64_t i = 0; i < s.rows; i++) {
    const T* from = x + i * s.stride;
    const float* row = delta + i * s.width;
    T* to = dx + i * s.stride;
    for (int64_t j = 0; j < s.width; j++) {
      float normed = (get(from + j) - m[j]) * r[j];
      put(to + j, r[j] * (row[j] * weight[j] - a[j] - normed * b[j]));
    }
  }
}

FOR_EACH_PROCESSOR(norm, norm_forward,
                   (Slab s, const T* x, const float* weight, const float* bias, float eps, T* y, float* mean,
                    float* rstd, float* scratch),
                   (s, x, weight, bias, eps, y, mean, rstd, scratch))
FOR_EACH_PROCESSOR(norm_back, norm_backward,
                   (Slab s, const T* dy, const T* x, const float* weight, const float* bias, const float* mean,
                    const float* rstd, T* dx, float* dweight, float* dbias, float* scratch),
                   (s, dy, x, weight, bias, mean, rstd, dx, dweight, dbias, scratch))

template <typename T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

template <typename F>
void by_kind(const Tensor& x, F&& run) {
  if (x.scalar_type() == at::kBFloat16)
    run(static_cast<Brain*>(nullptr));
  else
    run(static_cast<float*>(nullptr));
}

// Calls `work(slab, picture, first channel)` for every slab, on all threads. A picture is divided only where
// there are more threads than pictures.
template <typename F>
void for_slabs(const Tensor& x, int64_t groups, bool silu, F&& work) {
  const int64_t n = x.size(0), c = x.size(1), rows = x.size(2) * x.size(3), group = c / groups;
  int64_t parts = std::min(groups, (at::get_num_threads() + n - 1) / std::max<int64_t>(n, 1));
  while (groups % parts) parts--;
  const int64_t width = c / parts;
  at::parallel_for(0, n * parts, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) work(Slab{rows, width, c, group, silu}, i / parts, i % parts * width);
  });
}

struct GroupNorm : torch::autograd::Function<GroupNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        int64_t groups, double eps, bool silu) {
    const int64_t n = x.size(0), c = x.size(1), group = c / groups;
    Tensor y = at::empty_like(x);
    Tensor mean = at::empty({n, groups}, x.options().dtype(at::kFloat)), rstd = at::empty_like(mean);
    by_kind(x, [&](auto* kind) {
      using T = std::remove_pointer_t<decltype(kind)>;
      for_slabs(x, groups, silu, [&](Slab s, int64_t i, int64_t first) {
        std::vector<float> scratch(3 * s.width);
        const int64_t at = i * s.rows * c + first, stat = i * groups + first / group;
        norm(s, data<T>(x) + at, data<float>(weight) + first, data<float>(bias) + first, static_cast<float>(eps),
             data<T>(y) + at, data<float>(mean) + stat, data<float>(rstd) + stat, scratch.data());
      });
    });
    context->save_for_backward({x, weight, bias, mean, rstd});
    context->saved_data["groups"] = groups;
    context->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3], &rstd = saved[4];
    const int64_t groups = context->saved_data["groups"].toInt();
    const int64_t n = x.size(0), c = x.size(1), group = c / groups;
    Tensor dy = gradients[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx = at::empty_like(x);
    // One row a picture, summed in the same order whatever the threads did.
    Tensor dweight = at::empty({n, c}, x.options().dtype(at::kFloat)), dbias = at::empty_like(dweight);
    by_kind(x, [&](auto* kind) {
      using T = std::remove_pointer_t<decltype(kind)>;
      for_slabs(x, groups, context->saved_data["silu"].toBool(), [&](Slab s, int64_t i, int64_t first) {
        std::vector<float> scratch((s.rows + 4) * s.width);
        const int64_t at = i * s.rows * c + first, stat = i * groups + first / group;
        norm_back(s, data<T>(dy) + at, data<T>(x) + at, data<float>(weight) + first, data<float>(bias) + first,
                  data<float>(mean) + stat, data<float>(rstd) + stat, data<T>(dx) + at,
                  data<float>(dweight) + i * c + first, data<float>(dbias) + i * c + first, scratch.data());
      });
    });
    return {dx, dweight.sum(0), dbias.sum(0), Tensor(), Tensor(), Tensor()};
  }
};

bool ours(const Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

bool plain(const Tensor& parameter) { return parameter.scalar_type() == at::kFloat && parameter.is_contiguous(); }

// ---- gated GELU -------------------------------------------------------------------------------

template <typename T>
INLINE void gate_forward(int64_t width, const T* x, T* y) {
  float density;
  for (int64_t j = 0; j < width; j++) {
    float g = get(x + width + j);
    put(y + j, get(x + j) * g * normal<T>(g, &density));
  }
}

template <typename T>
INLINE void gate_backward(int64_t width, const T* dy, const T* x, T* dx) {
  for (int64_t j = 0; j < width; j++) {
    float a = get(x + j), g = get(x + width + j), d = get(dy + j), density;
    float below = normal<T>(g, &density);
    put(dx + j, d * g * below);
    put(dx + width + j, d * a * (below + g * density));
  }
}

FOR_EACH_PROCESSOR(gate, gate_forward, (int64_t width, const T* x, T* y), (width, x, y))
FOR_EACH_PROCESSOR(gate_back, gate_backward, (int64_t width, const T* dy, const T* x, T* dx), (width, dy, x, dx))

template <typename F>
void for_rows(const Tensor& x, F&& work) {
  const int64_t both = x.size(-1);
  at::parallel_for(0, x.numel() / both, 16, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) work(i, both / 2);
  });
}

struct GatedGelu : torch::autograd::Function<GatedGelu> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    auto shape = x.sizes().vec();
    shape.back() /= 2;
    Tensor y = at::empty(shape, x.options());
    by_kind(x, [&](auto* kind) {
      using T = std::remove_pointer_t<decltype(kind)>;
      for_rows(x, [&](int64_t i, int64_t width) { gate(width, data<T>(x) + i * 2 * width, data<T>(y) + i * width); });
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    Tensor x = context->get_saved_variables()[0];
    Tensor dy = gradients[0].to(x.scalar_type()).contiguous(), dx = at::empty_like(x);
    by_kind(x, [&](auto* kind) {
      using T = std::remove_pointer_t<decltype(kind)>;
      for_rows(x, [&](int64_t i, int64_t width) {
        gate_back(width, data<T>(dy) + i * width, data<T>(x) + i * 2 * width, data<T>(dx) + i * 2 * width);
      });
    });
    return {dx};
  }
};

// ---- what autocast would widen ----------------------------------------------------------------

// While this lives, operations run in the number type of what they read. On a GPU autocast has norms and
// upsampling read and write f32: a cast there, twice the bytes, and a cast back for every layer that reads
// the result. Norms accumulate in f32 anyway; upsampling to the nearest computes nothing.
class AsRead {
  c10::impl::ExcludeDispatchKeyGuard without_autocast_{c10::autocast_dispatch_keyset};

 public:
  // A parameter in x's type, where a GPU's kernels want it; autocast keeps these casts.
  Tensor parameter(const Tensor& p, const Tensor& x) const {
    return x.is_cuda() ? at::autocast::cached_cast(x.scalar_type(), p, x.device().type()) : p;
  }
};

}  // namespace

extern "C" {

// Group norm over `[n, c, h, w]`, then SiLU where `silu` says so.
char* unsee_group_norm(Tensor* x, Tensor* weight, Tensor* bias, int64_t groups, double eps, bool silu, Tensor** out) {
  return guarded([&] {
    if (ours(*x) && x->dim() == 4 && x->is_contiguous(at::MemoryFormat::ChannelsLast) && plain(*weight) && plain(*bias)) {
      *out = new Tensor(GroupNorm::apply(*x, *weight, *bias, groups, eps, silu));
    } else {
      AsRead kind;
      Tensor y = at::group_norm(*x, groups, kind.parameter(*weight, *x), kind.parameter(*bias, *x), eps);
      if (silu) y = at::silu(y);
      // CUDA's comes back row by row; the convolutions before and after it want their layout.
      auto layout = at::MemoryFormat::ChannelsLast;
      *out = new Tensor(x->dim() == 4 && x->is_contiguous(layout) ? y.contiguous(layout) : y);
    }
  });
}

// Layer norm over the last dimension, whose size is the parameters'.
char* unsee_layer_norm(Tensor* x, Tensor* weight, Tensor* bias, double eps, Tensor** out) {
  return guarded([&] {
    AsRead kind;
    *out = new Tensor(at::layer_norm(*x, weight->sizes(), kind.parameter(*weight, *x), kind.parameter(*bias, *x), eps));
  });
}

// `[n, c, h, w]` to `[n, c, 2h, 2w]`: each pixel four times.
char* unsee_upsample_twice(Tensor* x, Tensor** out) {
  return guarded([&] {
    AsRead kind;
    *out = new Tensor(at::upsample_nearest2d(*x, {2 * x->size(2), 2 * x->size(3)}));
  });
}

// `a · gelu(b)` for `[…, 2w]` that holds a and b one behind the other.
char* unsee_gated_gelu(Tensor* x, Tensor** out) {
  return guarded([&] {
    if (ours(*x) && x->is_contiguous()) {
      *out = new Tensor(GatedGelu::apply(*x));
    } else {
      auto both = at::chunk(*x, 2, -1);
      *out = new Tensor(at::mul(both[0], at::gelu(both[1])));
    }
  });
}

}  // extern "C"
