// What libtorch can do and tch 0.24 does not offer: private generators, autocast with a chosen type,
// fused optimizers, gradient checkpointing, CUDA opened at run time and its memory statistics.
//
// Every function returns null, or a message that the caller frees with `unsee_free`. No exception leaves.

#include <dlfcn.h>
#include <malloc.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/autograd.h>

#include "guarded.h"

using at::Tensor;

namespace {

std::vector<Tensor> list(Tensor** tensors, int64_t n) {
  std::vector<Tensor> out;
  out.reserve(n);
  for (int64_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}

}  // namespace

extern "C" {

void unsee_free(char* message) { free(message); }

// A network's activations are megabytes that come and go at each step. glibc gives such blocks back to
// the kernel at once and gets them again, zeroed page by page; keep them instead.
void unsee_keep_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

// Registers CUDA's kernels; must run before anything asks libtorch about CUDA.
char* unsee_open_cuda(const char* path) {
  return guarded([&] {
    if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
  });
}

// Whether f32 products may be rounded to 10 bits on the way (TF32), and whether cuDNN tries its algorithms
// before it takes one.
void unsee_cuda_products(bool rounded, bool autotune) {
  at::globalContext().setAllowTF32CuBLAS(rounded);
  at::globalContext().setAllowTF32CuDNN(rounded);
  at::globalContext().setBenchmarkCuDNN(autotune);
}

bool unsee_cuda_products_are_rounded() {
  return at::globalContext().allowTF32CuBLAS() || at::globalContext().allowTF32CuDNN();
}

// allocated now, allocated at peak, reserved now, reserved at peak; bytes.
char* unsee_device_memory(int8_t index, int64_t* out) {
  return guarded([&] {
    auto stats = at::accelerator::getDeviceStats(index);
    out[0] = stats.allocated_bytes[0].current;
    out[1] = stats.allocated_bytes[0].peak;
    out[2] = stats.reserved_bytes[0].current;
    out[3] = stats.reserved_bytes[0].peak;
  });
}

// What the driver has left, and what libtorch keeps for later, once that is given back.
char* unsee_free_device_memory(int8_t index, int64_t* out) {
  return guarded([&] {
    at::accelerator::emptyCache();
    out[0] = static_cast<int64_t>(at::accelerator::getMemoryInfo(index).first);
  });
}

char* unsee_reset_device_peak(int8_t index) {
  return guarded([&] { at::accelerator::resetPeakStats(index); });
}

// ---- private CPU generators -------------------------------------------------------------------

char* unsee_generator(uint64_t seed, at::Generator** out) {
  return guarded([&] { *out = new at::Generator(at::detail::createCPUGenerator(seed)); });
}

void unsee_generator_free(at::Generator* generator) { delete generator; }

char* unsee_randn(at::Generator* generator, const int64_t* shape, int64_t n, Tensor** out) {
  return guarded([&] { *out = new Tensor(at::randn({shape, (size_t)n}, *generator, at::kFloat)); });
}

char* unsee_rand(at::Generator* generator, const int64_t* shape, int64_t n, Tensor** out) {
  return guarded([&] { *out = new Tensor(at::rand({shape, (size_t)n}, *generator, at::kFloat)); });
}

char* unsee_randint(at::Generator* generator, int64_t high, const int64_t* shape, int64_t n, Tensor** out) {
  return guarded([&] { *out = new Tensor(at::randint(high, {shape, (size_t)n}, *generator, at::kLong)); });
}

char* unsee_randperm(at::Generator* generator, int64_t n, Tensor** out) {
  return guarded([&] { *out = new Tensor(at::randperm(n, *generator, at::kLong)); });
}

// ---- autocast ---------------------------------------------------------------------------------

// Enters autocast (kind >= 0, libtorch's ScalarType) or a stretch without it (kind < 0). `before` gets
// what unsee_autocast_leave needs to restore.
char* unsee_autocast_enter(int device, int kind, int64_t* before) {
  return guarded([&] {
    auto type = static_cast<at::DeviceType>(device);
    before[0] = at::autocast::is_autocast_enabled(type);
    before[1] = static_cast<int64_t>(at::autocast::get_autocast_dtype(type));
    at::autocast::set_autocast_enabled(type, kind >= 0);
    if (kind >= 0) at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(kind));
    at::autocast::increment_nesting();
  });
}

char* unsee_autocast_leave(int device, const int64_t* before) {
  return guarded([&] {
    auto type = static_cast<at::DeviceType>(device);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type, before[0] != 0);
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(before[1]));
  });
}

// Forgets the casts of parameters that autocast keeps. One that was made without gradients must not be
// found by a forward pass that wants them.
void unsee_autocast_forget() { at::autocast::clear_cache(); }

// ---- what tch leaves an argument out of ---------------------------------------------------------

char* unsee_leaky_relu(Tensor* x, double slope, Tensor** out) {
  return guarded([&] { *out = new Tensor(at::leaky_relu(*x, slope)); });
}

// ---- optimizers -------------------------------------------------------------------------------

char* unsee_adam(bool decoupled, Tensor** parameters, Tensor** gradients, Tensor** first, Tensor** second,
                 Tensor** steps, int64_t n, double lr, double beta1, double beta2, double decay, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(parameters, n), g = list(gradients, n), m = list(first, n), v = list(second, n),
         s = list(steps, n);
    if (decoupled)
      at::_fused_adamw_(p, g, m, v, {}, s, lr, beta1, beta2, decay, eps, false, false);
    else
      at::_fused_adam_(p, g, m, v, {}, s, lr, beta1, beta2, decay, eps, false, false);
  });
}

// ---- gradients --------------------------------------------------------------------------------

// out[i] is null where input i does not reach the loss.
char* unsee_grad(Tensor* loss, Tensor** inputs, int64_t n, bool keep, bool create, Tensor** out) {
  return guarded([&] {
    auto found = torch::autograd::grad({*loss}, list(inputs, n), {}, keep, create, /*allow_unused=*/true);
    for (int64_t i = 0; i < n; i++) out[i] = found[i].defined() ? new Tensor(found[i]) : nullptr;
  });
}

typedef void (*OnGradient)(void* closure, int64_t index, Tensor* gradient);

namespace {

// Hands a leaf's gradient over as soon as it is whole, and lets go of it.
struct HandOver : torch::autograd::PostAccumulateGradHook {
  void* closure;
  OnGradient call;
  int64_t index;
  HandOver(void* closure, OnGradient call, int64_t index) : closure(closure), call(call), index(index) {}
  void operator()(const torch::autograd::Variable& leaf) override {
    Tensor gradient = leaf.grad();
    leaf.mutable_grad().reset();
    if (gradient.defined()) call(closure, index, &gradient);
  }
};

struct Hooks {
  std::vector<Tensor> leaves;
  ~Hooks() {
    for (auto& leaf : leaves) {
      torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
      leaf.mutable_grad().reset();
    }
  }
};

}  // namespace

char* unsee_grad_each(Tensor* loss, Tensor** inputs, int64_t n, void* closure, OnGradient call) {
  return guarded([&] {
    Hooks hooks{list(inputs, n)};
    for (int64_t i = 0; i < n; i++) {
      hooks.leaves[i].mutable_grad().reset();
      torch::autograd::impl::set_post_acc_grad_hooks(
          hooks.leaves[i], std::make_unique<HandOver>(closure, call, i));
    }
    torch::autograd::backward({*loss}, {}, /*retain_graph=*/false, /*create_graph=*/false, hooks.leaves);
  });
}

}  // extern "C"

// ---- checkpointing ----------------------------------------------------------------------------

typedef Tensor* (*Block)(void* closure, Tensor** inputs, int64_t n);  // null: the closure failed
typedef void (*Drop)(void* closure);

namespace {

// Owns the Rust closure; lives as long as the graph does. Never copied: a copy's end would free the closure.
struct Closure : torch::CustomClassHolder {
  void* data;
  Block call;
  Drop drop;
  int64_t inputs;
  Closure(void* data, Block call, Drop drop, int64_t inputs) : data(data), call(call), drop(drop), inputs(inputs) {}
  Closure(const Closure&) = delete;
  ~Closure() override { drop(data); }
  Tensor run(torch::autograd::variable_list given) const {
    std::vector<Tensor*> pointers;
    for (int64_t i = 0; i < inputs; i++) pointers.push_back(&given[i]);
    std::unique_ptr<Tensor> out(call(data, pointers.data(), inputs));
    if (!out) throw std::runtime_error("a checkpointed block failed");
    return *out;
  }
};

// Autocast's state is per thread and a backward runs later: the block must see what its forward saw.
struct Cast {
  at::DeviceType device;
  bool on;
  at::ScalarType kind;
  explicit Cast(at::DeviceType device)
      : device(device),
        on(at::autocast::is_autocast_enabled(device)),
        kind(at::autocast::get_autocast_dtype(device)) {}
  void set() const {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, on);
    at::autocast::set_autocast_dtype(device, kind);
  }
};

struct CastGuard {
  Cast before;
  explicit CastGuard(const Cast& wanted) : before(wanted.device) { wanted.set(); }
  ~CastGuard() { before.set(); }
};

// The first `closure->inputs` variables are the block's arguments, the rest the parameters that it reads.
// Both are inputs of the graph's node, so that gradients can be asked for by name as well as accumulated.
struct Checkpoint : public torch::autograd::Function<Checkpoint> {
  static Tensor forward(torch::autograd::AutogradContext* context, at::TensorList inputs,
                        c10::intrusive_ptr<Closure> closure) {
    auto variables = inputs.vec();
    Cast cast(variables[0].device().type());
    context->save_for_backward(variables);
    context->saved_data["closure"] = c10::IValue::make_capsule(closure);
    context->saved_data["on"] = cast.on;
    context->saved_data["kind"] = static_cast<int64_t>(cast.kind);
    at::AutoGradMode off(false);
    return closure->run(variables);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto variables = context->get_saved_variables();
    auto capsule = context->saved_data["closure"].toCapsule();
    auto* closure = static_cast<Closure*>(capsule.get());
    torch::autograd::variable_list wanted;
    std::vector<int64_t> place;
    for (int64_t i = 0; i < (int64_t)variables.size(); i++) {
      bool needed = variables[i].requires_grad();
      if (i < closure->inputs) {
        variables[i] = variables[i].detach();
        variables[i].set_requires_grad(needed);
      }
      if (needed) {
        wanted.push_back(variables[i]);
        place.push_back(i);
      }
    }
    Cast cast(variables[0].device().type());
    cast.on = context->saved_data["on"].toBool();
    cast.kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
    torch::autograd::variable_list result(variables.size() + 1), found;
    {
      at::AutoGradMode on(true);
      CastGuard guard(cast);
      auto output = closure->run(variables);
      found = torch::autograd::grad({output}, wanted, {gradients[0]}, {}, false, /*allow_unused=*/true);
    }
    for (size_t i = 0; i < place.size(); i++) result[place[i]] = found[i];
    return result;
  }
};

}  // namespace

extern "C" char* unsee_checkpoint(Tensor** variables, int64_t n, int64_t inputs, void* closure, Block call, Drop drop,
                                  Tensor** out) {
  auto held = c10::make_intrusive<Closure>(closure, call, drop, inputs);
  return guarded([&] { auto inputs_and_parameters = list(variables, n);
    *out = new Tensor(Checkpoint::apply(at::TensorList(inputs_and_parameters), held)); });
}
