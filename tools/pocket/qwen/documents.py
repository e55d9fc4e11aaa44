"""
Training documents: prompts and answers inside the service's own templates (`prompts/enhancement`) and variations of them.

A document is a list of (text, learn, dropout) pieces; only pieces with `learn` count in the loss.
"""
import math
import pathlib
import random
import zlib

import edits
from free_text import free, invented, phrase, sentence
from scenes import TIMES, add_elements, free_text, light, sky, world_scene
from words import *

TEMPLATES = pathlib.Path(__file__).resolve().parents[3] / "prompts" / "enhancement"
END, START, STOP = SPECIAL = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
HELD_OUT = 60


def held_out(prompt: str) -> bool:
    """Prompts with these hashes are never trained; the checks draw from them only."""
    return zlib.crc32(prompt.strip().lower().encode()) % HELD_OUT == 0


def template(name: str) -> str:
    return (TEMPLATES / f"{name}.md").read_text().split("---\n", 2)[2].strip("\n")


EXACT = {name: template(name) for name in ("base-image", "base-video", "chat-image", "chat-video")}
IMAGE = ["You improve prompts for pictures.", "Describe the image in more detail.", "Expand the prompt for an image model.", "You are a helpful assistant that writes prompts for images.",
         "Turn the short text into a detailed picture prompt.", "You write detailed image prompts."]
VIDEO = ["You improve prompts for short videos.", "Describe the video in more detail.", "Expand the prompt for a video model.", "You are a helpful assistant that writes prompts for video clips.",
         "Turn the short text into a detailed video prompt.", "You write detailed video prompts."]
NEUTRAL = ["Keep every object of the original.", "Keep all words of the user.", "Add details that can be seen.", "Write one line.", "Answer with the prompt only.", "Do not explain.", "Be concise.",
           "Never change numbers or colours.", "Add lighting and style.", "Use plain words.", "Keep relations and counts.", "No lists."]
ASSISTANT = ["You are a helpful, respectful and honest assistant. Always answer as helpfully as possible.", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "You are a helpful assistant."]


def instruction(r, chat, video):
    if r.random() < 0.6:
        return EXACT[f"{'chat' if chat else 'base'}-{'video' if video else 'image'}"]
    kind = r.random()
    if chat and not video and kind < 0.12:
        return r.choice(ASSISTANT)
    out = [r.choice(VIDEO if video else IMAGE)] + r.sample(NEUTRAL, r.randint(0, 4))
    if kind < 0.3:
        out.insert(r.randint(1, len(out)), sentence(r) + ".")
    r.shuffle(out) if r.random() < 0.2 else None
    text = " ".join(out)
    return text if chat else text + r.choice(["\n\n", "\n\n", "\n"]) + "Original prompt: {prompt}\nEnhanced detailed prompt:"


def draw_scene(r, video, free_share=0.46):
    while True:
        if r.random() < free_share:
            scene = free_text(r, free(r, lambda: world_scene(r, video).short()), video)
        else:
            scene = world_scene(r, video)
        if not held_out(scene.short()):
            return scene


def completion(r):
    video = r.random() < 0.35
    scene = draw_scene(r, video)
    before, after = instruction(r, False, video).split("{prompt}")
    short = scene.short()
    long = scene.long()
    if scene.kind == "free" and r.random() < 0.25:
        return [(before.rstrip(" "), False, False), (" " + short, False, True), (after, False, False), (" " + short, True, True), (long[len(short):] + END, True, False)]
    return [(before + short + after, False, False), (" " + long + END, True, False)]


def context(r, scene):
    """A context message; a part of them says something about time or background, which then shapes the details."""
    if scene.kind != "free" and not scene.things() and r.random() < 0.15:
        return r.choice([phrase(r), sentence(r), f"the user likes {phrase(r)}"])
    if r.random() < 0.35:
        return r.choice([sentence(r), f"the user likes {phrase(r)}", f"this is for {phrase(r)}", "a series of pictures", f"scene {r.randint(1, 20)} of a story about {phrase(r)}", invented(r)])
    if r.random() < 0.65:
        when = r.choice(list(TIMES))
        if scene.given() & {"sky", "background", "change"} or (getattr(scene, "when", None) and scene.when != when):
            return sentence(r)
        scene.when = when
        scene.details.clear()
        scene.details["sky"] = sky(r, scene, when)
        add_details_at(r, scene)
        plain = when
        return r.choice([f"it is {plain}", f"{plain}", f"the scene is at {plain}" if when != "day" else "the scene is by day", f"make it {plain}", f"all at {plain}" if when != "day" else "all by day", f"{plain} time", f"the story plays at {plain}"])
    colour = r.choice(COLOURS)
    if scene.given() & {"sky", "background", "change", "light"} or any(colour in t.colour for t in scene.things()):
        return sentence(r)
    for slot in edits.OUTDOORS:
        scene.details.pop(slot, None)
    scene.when = None
    scene.details["background"] = f"plain {colour} background"
    return r.choice([f"{colour} background", f"use a {colour} background", f"everything on a {colour} background", f"plain {colour} background", f"all pictures have a {colour} background"])


def add_details_at(r, scene):
    """The details that go with a time that is settled."""
    kept = dict(scene.details)
    if "light" not in scene.given():
        scene.details["light"] = light(r, scene.when)
    if r.random() < 0.6:
        add_elements(r, scene, 1)
    scene.details.update(kept)
    if scene.video and scene.kind != "landscape" and "motion" not in scene.given():
        scene.details["motion"] = r.choice(MOTIONS)


def message(role, text):
    return f"{START}{role}\n{text}{STOP}\n"


def chat(r):
    video = r.random() < 0.3
    pieces, head = [], ""
    if r.random() < 0.96:
        head = message("system", instruction(r, True, video))
    else:
        video = False
    scene = draw_scene(r, video, 0.4)
    given = context(r, scene) if r.random() < 0.22 else None
    said = scene.short()
    edited = None
    if given is None and r.random() < 0.04:
        # A conversation whose only memory is the context: it holds the last prompt, the user asks for a change.
        given = scene.long()
        edited = edits.change(r, scene)
        given, said = (given, edited) if edited else (None, said)
    turns = r.choices([0, 1, 2, 3, 5], [36, 33, 18, 9, 4])[0]
    dropping, first = r.random() < 0.3, given is None and edited is None
    pieces.append((head, False, False))
    for turn in range(turns + 1):
        if turn > 0:
            if r.random() < 0.18:
                scene, given, first = draw_scene(r, video, 0.4), None, True
                said = scene.short()
            else:
                said = edits.change(r, scene)
                if said is None:
                    break
                given, first = None, False
        if given is not None:
            if r.random() < 0.75:
                pieces.append((message("user", f"Context: {given}"), False, False))
            else:
                said = f"Context: {given}\n\n{said}"
        answer = scene.long()
        body = scene.body(False)
        if scene.kind == "free" and dropping and answer.startswith(body):
            # the text is cut in one unusual way for the whole conversation
            pieces += [(f"{START}user\n", False, False), (said, False, first), (f"{STOP}\n{START}assistant\n", False, False), (body, True, True), (answer[len(body):] + STOP, True, False), ("\n", False, False)]
        else:
            pieces += [(message("user", said) + f"{START}assistant\n", False, False), (answer + STOP, True, False), ("\n", False, False)]
    return pieces[:-1]


def document(r: random.Random):
    return completion(r) if r.random() < 0.4 else chat(r)


def span(r, vocabulary):
    """Any tokens, each as likely as another: what no text has, pieces of words and bytes among them, must be copied too."""
    count, kind = int(math.exp(r.uniform(math.log(2), math.log(220)))), r.random()
    ordinary = range(len(SPECIAL), vocabulary)
    if kind < 0.5:
        return r.choices(ordinary, k=count)
    stock = r.choices(ordinary, k=r.randint(8, 50))
    if kind < 0.65:
        return r.choices(stock, k=count)
    if kind < 0.8:
        # as the bytes of one script: the first of two or three tokens is nearly always the same
        heads = [r.choices(ordinary, k=r.randint(1, 2)) for _ in range(r.randint(1, 3))]
        return [token for _ in range(count // 2) for token in [*r.choice(heads), r.choice(stock)]] or stock[:1]
    tokens = r.choices(ordinary, k=max(6, count // 2))
    start = r.randrange(len(tokens) - 4)
    return tokens + tokens[start: start + r.randint(4, 40)] + r.choices(ordinary, k=r.randint(1, 20))


def copy(r, tokenizer):
    """Token ids and mask of a document that copies a `span`, in follow-ups too; what comes after it is learnt where no sign decides how it goes on."""
    chatting, video = r.random() < 0.5, r.random() < 0.3
    text = instruction(r, chatting, video)
    if chatting:
        before, after, stop = f"{message('system', text)}{START}user\n", f"{STOP}\n{START}assistant\n", STOP
    else:
        (before, after), stop = text.split("{prompt}"), END
    tokens = span(r, tokenizer.get_vocab_size())
    head, between = tokenizer.encode(before.rstrip(" ")).ids, tokenizer.encode(after).ids
    scene = free_text(r, "x", video)
    last = tokenizer.id_to_token(tokens[-1])[-1]
    learnt = last.isascii() and last.isalnum()
    ids, learn = head + tokens, [False] * (len(head) + len(tokens))
    for turn in range(1 + (r.choices([0, 1, 2], [45, 35, 20])[0] if chatting else 0)):
        said = edits.change(r, scene) if turn > 0 else None
        if turn > 0 and said is None:
            break
        asked = between if said is None else tokenizer.encode(f"\n{START}user\n{said}").ids + between
        tail = tokenizer.encode(scene.long()[1:] + stop).ids
        ids += asked + tokens + tail
        learn += [False] * len(asked) + [True] * len(tokens) + [learnt] * len(tail)
    return ids, learn


def encode(tokenizer, dropped, pieces):
    """Token ids and a mask of those to learn. Copies of a text cut in the same unusual way teach copying, not spelling."""
    ids, learn, cut = [], [], {}
    joined = []
    for text, learned, dropout in pieces:
        if joined and not dropout and not joined[-1][2] and joined[-1][1] == learned:
            joined[-1] = (joined[-1][0] + text, learned, False)
        else:
            joined.append((text, learned, dropout))
    for text, learned, dropout in joined:
        if dropout:
            piece = cut.get(text)
            if piece is None:
                piece = cut[text] = dropped.encode(text).ids
        else:
            piece = tokenizer.encode(text).ids
        ids += piece
        learn += [learned] * len(piece)
    return ids, learn
