"""Blocks what is like an example, at once and without training; removing it undoes that."""

from PIL import Image

from nsfw_guard import Bank, Banked, Guard, load_model
from nsfw_guard.demo.shapes import draw, parse
from nsfw_guard.tools.examples import Decision, add_images

model = load_model("demo-shapes")  # in earnest: load_model("marqo")
guard = Guard(model)

logo = Image.new("RGB", (512, 512))
parts = ("large green star on black", "small blue square on white", "yellow cross on sky", "large purple ring on grey")
for i, words in enumerate(parts):
    logo.paste(draw(parse(f"a {words}"), side=256), (256 * (i % 2), 256 * (i // 2)))
copy = logo.resize((400, 400), Image.Resampling.BICUBIC)
print("without:", [verdict.outcome.name for verdict in guard.check([logo, copy])])

# Its pixels and its perceptual hash; with ordinary images (`nsfw-guard bank ordinary`), what is like it, too.
decision = Decision(kind="block", reason="reported", label="logo", ticket="T-17")
bank, added = add_images(Bank(), guard, [logo], decision)
with_bank = Guard(Banked(model, bank))
verdicts = with_bank.check([logo, copy])
print(verdicts[1].reason)

removed = Guard(Banked(model, bank.without([example.id for example in added]))).check([logo, copy])
print("with the bank:", [v.outcome.name for v in verdicts], "| removed:", [v.outcome.name for v in removed])
