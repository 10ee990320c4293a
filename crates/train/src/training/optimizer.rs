//! AdamW with clipping by the global norm, which burn leaves to its users.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

pub struct OptimizerConfig {
    pub weight_decay: f32,
    pub beta_2: f32,
    /// Largest global gradient norm.
    pub grad_clip: f32,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig { weight_decay: 0.01, beta_2: 0.98, grad_clip: 1.0 }
    }
}

pub struct Optimizer {
    pub(super) inner: ModuleOptimizer,
    pub(super) grad_clip: f32,
}

impl Optimizer {
    pub fn new(config: &OptimizerConfig) -> Optimizer {
        let inner = AdamWConfig::new()
            .with_weight_decay(config.weight_decay)
            .with_beta_2(config.beta_2)
            .with_epsilon(1e-8)
            .init();
        Optimizer { inner, grad_clip: config.grad_clip }
    }

    /// One step on a scalar loss.
    pub fn step<M: Module>(&mut self, model: M, loss: Tensor<1>, lr: f64) -> M {
        let mut grads = GradientsParams::from_grads(loss.backward(), &model);
        let mut norm = SquaredNorm { grads: &grads, parts: Vec::new() };
        model.visit(&mut norm);
        let norm = norm.parts.iter().sum::<f64>().sqrt() as f32;
        if norm > self.grad_clip {
            model.visit(&mut Scale { grads: &mut grads, factor: self.grad_clip / norm });
        }
        self.inner.step(lr, model, grads)
    }
}

struct SquaredNorm<'a> {
    grads: &'a GradientsParams,
    parts: Vec<f64>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.parts.push(f64::from(grad.square().sum().into_scalar::<f32>()));
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f32,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}
