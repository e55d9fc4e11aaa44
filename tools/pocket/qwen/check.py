"""
Held-out prompts and the judgement of answers, apart from the generator: it sees only the user's text and the answer.

    python check.py prompts > prompts.json        300 of the worlds, 300 from outside, 200 follow-ups
    python check.py score prompts.json answers.json

A world prompt is kept when the answer begins with all its words in order, nothing but sizes and colours put in between;
its details are those words and the drawable phrases behind it. A text from outside is kept when the answer begins with
it, character for character. A follow-up is right when everything but the changed part is as before.
"""
import json
import random
import re
import sys

from check_texts import LISTS, LONG, SCRIPTS, SHORT, UNSEEN_ADJECTIVES, UNSEEN_NOUNS
from words import COLOURS, MOTIONS, SIZES

POSITION = r"(at the (top|bottom)( left| right)?|on the (left|right)|in the centre)"
DRAWABLE = [
    rf"(small and |large and )?{POSITION}", rf"plain ({'|'.join(COLOURS)}|pink|grey|brown) background", r"((clear|bright|dark|orange|warm) )?(day|sunset|night) sky", rf"(sun|moon) {POSITION}",
    r"white clouds|a few clouds", r"green hills|rolling hills", r"a (calm|blue) sea", r"green trees|a few trees", r"a (small )?house", "|".join(MOTIONS), r"slowly|quickly",
    r"day (slowly )?turns to night|the sky turns from day to night",
]
DETAIL = re.compile("|".join(f"(?:{d})" for d in DRAWABLE), re.I)
QUALITY = re.compile(r"flat colours|clean edges|sharp edges|simple shapes|best quality|high contrast", re.I)


def judge_world(prompt, answer):
    """(kept, details): whether all of the prompt is there in order, and how many drawable details were added."""
    said, got = re.findall(r"[\w]+|[^\w\s]", prompt), re.findall(r"[\w]+|[^\w\s]", answer)
    at = inserted = 0
    for position, word in enumerate(said):
        while at < len(got) and got[at] != word and not (word in ("a", "an", "A", "An") and got[at].lower() in ("a", "an")):
            if got[at].lower() not in COLOURS + SIZES:
                return False, 0
            inserted += 1
            at += 1
        if at == len(got):
            return False, 0
        at += 1
    rest = re.sub(r"^[\s,.]+", "", " ".join(got[at:]))
    details = 0
    for piece in [p.strip() for p in rest.split(",") if p.strip()]:
        if DETAIL.fullmatch(piece):
            details += 1
        elif not QUALITY.fullmatch(piece):
            return False, inserted + details
    if "background" in rest and "background" in prompt:
        return False, inserted + details
    return True, inserted + details


def judge_outside(prompt, answer):
    rest = answer[len(prompt):]
    pieces = [p.strip() for p in re.sub(r"^[,.\s]+", "", rest).split(",") if p.strip()]
    return answer.startswith(prompt), sum(bool(DETAIL.fullmatch(p)) for p in pieces)


def same_sky(text):
    return re.sub(r"(clear |bright |dark |orange |warm )?(day|sunset|night) sky", r"\2 sky", text, flags=re.I)


def judge(item, answer):
    if answer is None:
        return False, 0
    if item["kind"] == "world":
        return judge_world(item["prompt"], answer)
    if item["kind"] == "outside":
        return judge_outside(item["prompt"], answer)
    return same_sky(answer) == same_sky(item["expected"]), 2


def open_slots(scene):
    free = sum(not t.size_said for t in scene.things()) + sum(not t.colour_said for t in scene.things())
    return free + (0 if "background" in scene.given() else 2 if scene.kind == "landscape" else 1)


def world_items(r, count):
    from documents import held_out
    from scenes import world_scene
    items, seen = [], set()
    while len(items) < count:
        video = r.random() < 0.33
        scene = world_scene(r, video)
        prompt = scene.short()
        if held_out(prompt) and open_slots(scene) >= 2 and prompt not in seen and not re.search(r"masterpiece|quality|[48]k|detail", prompt):
            seen.add(prompt)
            items.append({"kind": "world", "mode": "base" if len(items) % 2 else "chat", "target": "video" if video else "image", "prompt": prompt})
    return items


def outside_items(r, count):
    from documents import held_out
    from scenes import world_scene
    texts = [("long", t) for t in LONG] + [("list", t) for t in LISTS] + [("script", t) for t in SCRIPTS] + [("unknown", t) for t in SHORT]
    while len(texts) < count:
        noun, other, adjective = r.choice(UNSEEN_NOUNS), r.choice(UNSEEN_NOUNS), r.choice(UNSEEN_ADJECTIVES)
        kind = len(texts) % 5
        sentence = r.choice([f"a {adjective} {noun} in front of a {other}", f"two {noun}s and a {adjective} {other}", f"a {noun} that looks like a {other}", f"{adjective} {noun} at night", f"the {noun} behind the {adjective} {other}"])
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
    from scenes import world_scene
    items = []
    while len(items) < count:
        video = r.random() < 0.3
        scene = world_scene(r, video)
        first, answer = scene.short(), scene.long()
        if not held_out(first):
            continue
        said = edits.change(r, scene)
        if said is None:
            continue
        items.append({"kind": "followup", "mode": "chat", "target": "video" if video else "image", "history": [first, answer], "prompt": said, "expected": scene.long()})
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
    if sys.argv[1] == "prompts":
        json.dump([item | {"text": full_prompt(item)} for item in make_items()], sys.stdout, ensure_ascii=False, indent=0)
    else:
        show(report(json.load(open(sys.argv[2])), json.load(open(sys.argv[3]))), 40, sys.stdout)
