#pragma once

#include <ATen/ATen.h>

namespace pd {

// Gives a tensor that belongs to a parameter (a moment, an average) the parameter's strides, once.
inline void lay_out_like(const at::Tensor& tensor, const at::Tensor& param) {
  if (tensor.strides() == param.strides()) return;
  at::Tensor laid_out = at::empty_strided(param.sizes(), param.strides(), param.options().requires_grad(false));
  tensor.set_data(laid_out.copy_(tensor.detach()));
}

// The gradient of a parameter in the parameter's strides; undefined where there is none.
inline at::Tensor gradient_like(const at::Tensor& param) {
  at::Tensor grad = param.grad();
  if (!grad.defined() || grad.strides() == param.strides()) return grad;
  return at::empty_like(param).copy_(grad);
}

}  // namespace pd
