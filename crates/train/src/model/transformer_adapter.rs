//! ClipCap's mapping network (Mokady et al. 2021), which CapDec and ViECap train too: a transformer over the expanded
//! embedding and as many learned constants.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::transformer::Block;

/// What follows the expansion of one embedding into `P` rows, which is the decoder's `adapter`.
#[derive(Module, Debug)]
pub struct TransformerAdapter {
    /// (P, d).
    pub constants: Param<Tensor<2>>,
    pub blocks: Vec<Block>,
}

impl TransformerAdapter {
    /// `n_layer` blocks of `n_head` heads over 2 `prefix_length` rows of `d`, with ClipCap's MLP of twice the width.
    pub fn new(
        prefix_length: usize,
        d: usize,
        n_layer: usize,
        dropout: f64,
        device: &Device,
    ) -> TransformerAdapter {
        TransformerAdapter {
            constants: Initializer::Normal { mean: 0.0, std: 0.02 }.init([prefix_length, d], device),
            blocks: (0..n_layer).map(|_| Block::new(d, d / 64, 2 * d, n_layer, dropout, device)).collect(),
        }
    }

    /// `rows` (B, P, d) to (B, P, d): where the constants stood.
    pub fn forward(&self, rows: Tensor<3>) -> Tensor<3> {
        let [b, p, _] = rows.dims();
        let constants = self.constants.val().unsqueeze::<3>().repeat_dim(0, b);
        let x = Tensor::cat(vec![rows, constants], 1);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, None));
        x.narrow(1, p, p)
    }
}
