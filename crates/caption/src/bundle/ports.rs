//! The ports that the graphs of a bundle must have, as they follow from its settings.

use engine::{Dim, Port, Signature};

use super::manifest::{DecoderSettings, Manifest, PreprocessSettings, Role};

impl Manifest {
    /// The one signature that a graph of this role has in this bundle; nothing for what an encoder bundle lacks.
    pub fn signature(&self, role: Role) -> Option<Signature> {
        match role {
            Role::ImageEncoder => Some(self.image_encoder_signature()),
            Role::TextEncoder => Some(self.text_encoder_signature()),
            Role::Adapter => self.decoder.as_ref().map(|decoder| self.adapter_signature(decoder)),
            Role::Decoder => self.decoder.as_ref().map(|decoder| self.decoder_signature(decoder)),
        }
    }

    fn image_encoder_signature(&self) -> Signature {
        let dim = Dim::Fixed(self.embedding.dim);
        let n_patches = self.embedding.patches[0] * self.embedding.patches[1];
        let PreprocessSettings { width, height, .. } = self.preprocess;
        Signature {
            inputs: vec![Port::f32("pixels", [1.into(), 3.into(), height.into(), width.into()])],
            outputs: vec![
                Port::f32("embedding", [1.into(), dim.clone()]),
                Port::f32("patches", [1.into(), n_patches.into(), dim]),
                Port::f32("weights", [1.into(), n_patches.into()]),
            ],
        }
    }

    /// A graph that masks itself has no input for it, which it alone can say.
    fn text_encoder_signature(&self) -> Signature {
        let length = if self.tokenizer.padded { self.tokenizer.max_tokens.into() } else { Dim::from("S") };
        let mut inputs = vec![Port::i64("ids", ["B".into(), length.clone()])];
        if self.graphs.text_encoder.inputs.len() != 1 {
            inputs.push(Port::f32("mask", [length.clone(), length]));
        }
        let outputs = vec![Port::f32("embedding", ["B".into(), self.embedding.dim.into()])];
        Signature { inputs, outputs }
    }

    fn adapter_signature(&self, decoder: &DecoderSettings) -> Signature {
        let dim = Dim::Fixed(self.embedding.dim);
        Signature {
            inputs: vec![match &self.regions {
                None => Port::f32("embedding", ["B".into(), dim]),
                Some(regions) => Port::f32("regions", ["B".into(), regions.n_regions.into(), dim]),
            }],
            outputs: vec![Port::f32(
                "prefix",
                ["B".into(), decoder.prefix_length.into(), decoder.n_embd().into()],
            )],
        }
    }

    fn decoder_signature(&self, decoder: &DecoderSettings) -> Signature {
        let DecoderSettings { n_layer, n_head, head_dim, .. } = *decoder;
        let cache = |name: String, length: &str| {
            Port::f32(name, ["B".into(), n_head.into(), length.into(), head_dim.into()])
        };
        let mut inputs = vec![
            Port::i64("ids", ["B".into(), "S".into()]),
            Port::i64("positions", ["S".into()]),
            Port::f32("prefix", ["B".into(), "S".into(), decoder.n_embd().into()]),
        ];
        let vocab_size = self.decoder_tokenizer().vocab_size;
        let mut outputs = vec![Port::f32("logits", ["B".into(), vocab_size.into()])];
        for layer in 0..n_layer {
            for kind in ["key", "value"] {
                inputs.push(cache(format!("past_{kind}_{layer}"), "T"));
                outputs.push(cache(format!("{kind}_{layer}"), "T+S"));
            }
        }
        Signature { inputs, outputs }
    }
}
