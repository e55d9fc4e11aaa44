"""
Held-out prompts and the judgement of answers, apart from the generator: it sees only the user's text and the answer.

    python check.py > ../../../test/fixtures/pocket-qwen.json        300 of the worlds, 300 from outside, 200 follow-ups

The score that counts comes from llama.cpp: node dist/tools/pocket-qwen-score.js, with the same rules.

A world prompt is kept when the answer begins with all its words in order (in any case), nothing but sizes and colours put
in between; its details are those words and the drawable phrases behind it. A text from outside is kept when the answer begins with
it, character for character. A follow-up is right when everything but the changed part is as before.
"""
import json
import random
import re
import sys

from check_texts import LISTS, LONG, SCRIPTS, SHORT, UNSEEN_ADJECTIVES, UNSEEN_NOUNS
from words import COLOURS, MOTIONS, SIZES

BOTH = [r"(small and |large and )?(at the (top|bottom)|on the (left|right)|in the centre)", rf"plain ({'|'.join(COLOURS)}) background", r"the (sun|moon) (on the left|on the right|in the centre)", "white clouds", "green hills", "the sea"]
DRAWABLE = {
    "image": [*BOTH, r"a blue sky|a clear day|a (sunset|night) sky", "clouds", "hills", "trees", "a house"],
    "video": [*BOTH, r"((clear|bright) )?day sky|((orange|warm) )?sunset sky|((dark|clear) )?night sky", "a few clouds", "rolling hills", "a calm sea", "|".join(MOTIONS), "slowly|quickly",
              "day (slowly )?turns to night|the sky turns from day to night"],
}
DETAIL = {target: re.compile("|".join(f"(?:{d})" for d in drawable), re.I) for target, drawable in DRAWABLE.items()}
QUALITY = re.compile(r"best quality|clean shapes|high quality|highly detailed|sharp", re.I)


def judge_world(prompt, answer, detail):
    """(kept, details): whether all of the prompt is there in order, and how many drawable details were added."""
    said, got = (re.findall(r"[\w]+|[^\w\s]", text.lower()) for text in (prompt, answer))
    at = inserted = 0
    for position, word in enumerate(said):
        while at < len(got) and got[at] != word and not (word in ("a", "an") and got[at] in ("a", "an")):
            if got[at] not in COLOURS + SIZES:
                return False, 0
            inserted += 1
            at += 1
        if at == len(got):
            return False, 0
        at += 1
    rest = re.sub(r"^[\s,.]+", "", " ".join(got[at:]))
    details = 0
    for piece in [p.strip() for p in rest.split(",") if p.strip()]:
        if detail.fullmatch(piece):
            details += 1
        elif not QUALITY.fullmatch(piece):
            return False, inserted + details
    if "background" in rest and "background" in prompt:
        return False, inserted + details
    return True, inserted + details


def judge_outside(prompt, answer, detail):
    rest = answer[len(prompt):]
    pieces = [p.strip() for p in re.sub(r"^[,.\s]+", "", rest).split(",") if p.strip()]
    return answer.startswith(prompt), sum(bool(detail.fullmatch(p)) for p in pieces)


def same_sky(text):
    """The text with one name for each sky: which of several a new sky gets is free."""
    text = re.sub(r"\b(a blue sky|a clear day|((clear |bright )?day sky))", "day sky", text, flags=re.I)
    return re.sub(r"\b(a |clear |dark |orange |warm )?(sunset|night) sky", lambda m: f"{m[2].lower()} sky", text, flags=re.I)


def judge(item, answer):
    if answer is None:
        return False, 0
    if item["kind"] == "world":
        return judge_world(item["prompt"], answer, DETAIL[item["target"]])
    if item["kind"] == "outside":
        return judge_outside(item["prompt"], answer, DETAIL[item["target"]])
    return same_sky(answer) == same_sky(item["expected"]), 2


def room(scene):
    """How many details the prompt leaves open."""
    return len(scene.details) + sum((not t.size_said) + (not t.colour_said) for t in scene.things())


def world_items(r, count):
    from documents import held_out
    from scenes import world_scene
    items, seen = [], set()
    while len(items) < count:
        video = r.random() < 0.33
        scene = world_scene(r, video)
        prompt = scene.short()
        if held_out(prompt) and room(scene) >= 2 and prompt not in seen and not re.search(r"masterpiece|quality|[48]k|detail", prompt):
            seen.add(prompt)
            items.append({"kind": "world", "mode": "base" if len(items) % 2 else "chat", "target": "video" if video else "image", "prompt": prompt})
    return items


def unseen(r):
    noun, other, adjective = r.choice(UNSEEN_NOUNS), r.choice(UNSEEN_NOUNS), r.choice(UNSEEN_ADJECTIVES)
    return r.choice([f"a {adjective} {noun} in front of a {other}", f"two {noun}s and a {adjective} {other}", f"a {noun} that looks like a {other}", f"{adjective} {noun} at night", f"the {noun} behind the {adjective} {other}"])


def outside_items(r, count):
    from documents import held_out
    from scenes import world_scene
    texts = [("long", t) for t in LONG] + [("list", t) for t in LISTS] + [("script", t) for t in SCRIPTS] + [("unknown", t) for t in SHORT]
    while len(texts) < count:
        noun, adjective = r.choice(UNSEEN_NOUNS), r.choice(UNSEEN_ADJECTIVES)
        kind = len(texts) % 5
        sentence = unseen(r)
        if kind == 0:
            texts.append(("capitals", r.choice([sentence.upper(), sentence.title(), sentence.capitalize() + "!", world_scene(r, False).short().upper()])))
        elif kind == 1:
            texts.append(("list", ", ".join(r.sample(UNSEEN_NOUNS, r.randint(3, 7)))))
        elif kind == 2:
            texts.append(("long", r.choice(LONG).split(",")[0] + f", next to a {adjective} {noun} and " + r.choice(LONG).split(",")[-1].strip()))
        elif kind == 3:
            texts.append(("script", r.choice(SCRIPTS) + " " + r.choice(SCRIPTS)))
        else:
            texts.append(("unknown", sentence))
    return [{"kind": "outside", "group": group, "mode": "base" if i % 2 else "chat", "target": "video" if i % 3 == 0 else "image", "prompt": text} for i, (group, text) in enumerate(texts[:count])]


def follow_up_items(r, count):
    import edits
    from documents import held_out
    from scenes import free_text, world_scene
    items = []
    while len(items) < count:
        video = r.random() < 0.3
        outside = len(items) % 4 == 3
        scene = free_text(r, unseen(r), video) if outside else world_scene(r, video)
        first, answer = scene.short(), scene.long()
        if not outside and not held_out(first):
            continue
        said = edits.change(r, scene)
        if said is None:
            continue
        items.append({"kind": "followup", "group": "outside" if outside else "world", "mode": "chat", "target": "video" if video else "image", "history": [first, answer], "prompt": said, "expected": scene.long()})
    return items


def make_items(seed=20260724, world=300, outside=300, follow_ups=200):
    r = random.Random(seed)
    return world_items(r, world) + outside_items(r, outside) + follow_up_items(r, follow_ups)


def full_prompt(item):
    """The text before the answer, through the service's own templates."""
    from documents import EXACT, START, message
    text = EXACT[f"{item['mode']}-{item['target']}"]
    if item["mode"] == "base":
        return text.replace("{prompt}", item["prompt"])
    out = message("system", text)
    for role, said in zip(("user", "assistant"), item.get("history", [])):
        out += message(role, said)
    return out + message("user", item["prompt"]) + f"{START}assistant\n"


def report(items, answers):
    rows = {}
    for item, answer in zip(items, answers):
        answer = None if answer is None else answer.strip()
        kept, details = judge(item, answer)
        for key in (item["kind"], f"{item['kind']} {item.get('group') or item['mode']}"):
            row = rows.setdefault(key, {"n": 0, "kept": 0, "kept and 2 details": 0, "failures": []})
            row["n"] += 1
            row["kept"] += kept
            row["kept and 2 details"] += kept and details >= 2
            if not (kept and details >= 2) and key == item["kind"]:
                row["failures"].append([item["prompt"], answer, item.get("expected")])
    return rows


def show(rows, failures=12, out=sys.stderr):
    for key, row in rows.items():
        print(f"{key:22} n {row['n']:4}  kept {100 * row['kept'] / row['n']:5.1f} %  kept and >= 2 details {100 * row['kept and 2 details'] / row['n']:5.1f} %", file=out)
    for row in rows.values():
        for failure in row["failures"][:failures]:
            print("  ", json.dumps(failure, ensure_ascii=False), file=out)


if __name__ == "__main__":
    print("[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in make_items()) + "\n]")
