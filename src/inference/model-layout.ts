/**
 * Files without which an engine cannot open its model folder (docs/models.md); validation names the same ones
 * before it tries.
 */
export const requiredFiles = {
  sdxl: [
    'model_index.json',
    'scheduler/scheduler_config.json',
    'unet/config.json',
    'unet/model.onnx',
    'vae_decoder/model.onnx',
    'text_encoder/config.json',
    'text_encoder/model.onnx',
    'text_encoder_2/config.json',
    'text_encoder_2/model.onnx',
    'tokenizer/vocab.json',
    'tokenizer/merges.txt',
    'tokenizer_2/vocab.json',
    'tokenizer_2/merges.txt',
  ],
  wan: [
    'model_index.json',
    'tokenizer/tokenizer.json',
    'text_encoder/model.onnx',
    'transformer/config.json',
    'transformer/model.onnx',
    'vae_decoder/config.json',
    'vae_decoder/init.onnx',
    'vae_decoder/step.onnx',
  ],
} as const;
