"""Records what compel makes of prompts longer than one window: `record_long_prompts.py KIT OUT.json`.

KIT is a folder in the format of the recorded references; its `sdxl-tiny` encoders are used. Every fifth row of the
conditioning is kept, which is enough to tell any other split or weighting apart.
"""
import json
import sys
from pathlib import Path

import torch
from compel import Compel, ReturnedEmbeddingsType
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

PROMPTS = {
    'sentences': 'A small red circle floats above the wide blue sea. ' * 9 + 'The moon is bright.',
    'phrases': ', '.join(['a yellow star near a purple heart', 'two green triangles on a hill; trees behind them', 'clouds: thin and white'] * 5),
    'words': ' '.join(['red orange yellow green blue purple white black circle square triangle'] * 9),
    'one_word': 'q' * 400,
    'weights': 'a (bright moon)1.4 above the sea, ' * 8 + '(dark clouds)0.6 and trees, ' * 8 + 'a (house)1.2',
}


def main(kit: str, out: str) -> None:
    root = Path(kit) / 'sdxl-tiny'
    tokenizers = [CLIPTokenizer.from_pretrained(root, subfolder=name) for name in ('tokenizer', 'tokenizer_2')]
    encoders = [CLIPTextModel.from_pretrained(root, subfolder='text_encoder'), CLIPTextModelWithProjection.from_pretrained(root, subfolder='text_encoder_2')]
    compel = Compel(
        tokenizer=tokenizers, text_encoder=[encoder.float().eval() for encoder in encoders], requires_pooled=[False, True], truncate_long_prompts=False,
        returned_embeddings_type=ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
    )
    cases = []
    with torch.no_grad():
        for name, prompt in PROMPTS.items():
            conditioning, _ = compel(prompt)
            rows = conditioning[0, ::5]
            cases.append({'name': name, 'prompt': prompt, 'shape': list(conditioning.shape[1:]), 'every_fifth_row': [[round(value, 6) for value in row] for row in rows.tolist()]})
    Path(out).write_text(json.dumps({'cases': cases}, separators=(',', ':')) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
