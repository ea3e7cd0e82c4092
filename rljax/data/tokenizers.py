"""Tokenizers: bytes or symbols for models trained from scratch, Hugging Face from a folder."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rljax.data.token_bytes import spell_tokens
from rljax.errors import blamed
from rljax.remarks import say_once
from rljax.tasks.symbols import alphabet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = "config.tokenizer"

# A folder with at least one of these files has a tokenizer.
TOKENIZER_FILES = ("tokenizer*", "vocab.*", "*.tiktoken", "tekken.json", "spiece.model")


class Tokenizer:
    """What the rest of the library asks of a tokenizer.

    Attributes:
        vocab_size: the largest id + 1; not every id below it need be a token (`known`).
        pad_id: fills unused slots; masks, not this id, decide what counts.
        bos_id: begins a text, or None.
        eos_id: ends a completion, where neither a chat template nor the model names another id.
        begin: ids that it puts before a text of itself, such as bos.
        control_tokens: texts that become one id each which is no text: pad, the marks of turns.
        special_tokens: texts that become one id each because the config says so.
    """

    vocab_size: int
    pad_id: int
    bos_id: int | None
    eos_id: int
    begin: tuple[int, ...] = ()
    control_tokens: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()

    def encode(self, text: str) -> list[int]:
        """Ids of a text that stands at the beginning, without `begin`."""
        raise NotImplementedError

    def encode_inside(self, text: str) -> list[int]:
        """Ids of a text that follows another one."""
        return self.encode(text)

    def encode_plain(self, text: str) -> list[int]:
        """The same, with control tokens spelt out as the text that they look like."""
        return self.encode_inside(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; pad, bos, eos and ids that are no token are left out, tags are kept."""
        raise NotImplementedError

    def token_text(self, token_id: int) -> str:
        """A visible form of one id, for a viewer; "<unused 310>" for one that is no token."""
        raise NotImplementedError

    def known(self) -> np.ndarray:
        """[vocab_size] bool, True where an id is a token."""
        return np.ones(self.vocab_size, bool)

    def token_bytes(self) -> list[bytes]:
        """What each of the `vocab_size` ids adds to a text, in UTF-8; b"" for what `decode` omits.

        Joined in order they are the decoded text; a character may be spread over several ids. Two
        things that `decode` does to a text as a whole are not in them. Where tokens carry the space
        before them (sentencepiece, words), it drops spaces of the first token; here each has its
        own. And bytes that are no UTF-8 become U+FFFD; sentencepiece with byte fallback does this
        to a whole run of byte tokens as soon as one byte of the run is wrong.
        """
        raise NotImplementedError


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, then pad, bos, eos, then one id for each special tag.

    Args:
        special_tokens: strings that become one token each, such as ("<answer>", "</answer>").
            Where two match at one place, the longer wins.

    Raises:
        ValueError: if a special token is empty or given twice.
    """

    def __init__(self, special_tokens: Sequence[str] = ()) -> None:
        special_tokens = tuple(special_tokens)
        for token in special_tokens:
            if not isinstance(token, str) or not token:
                raise ValueError(
                    f"A special token must be a non-empty string, got {token!r} "
                    f"({FIELD}.special_tokens)."
                )
            if special_tokens.count(token) > 1:
                raise ValueError(
                    f"Special token {token!r} is given twice ({FIELD}.special_tokens)."
                )
        self.special_tokens = special_tokens
        self.pad_id, self.bos_id, self.eos_id = 256, 257, 258
        self.vocab_size = 259 + len(special_tokens)
        self._special_ids = {token: 259 + place for place, token in enumerate(special_tokens)}
        longest_first = sorted(special_tokens, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def encode(self, text: str) -> list[int]:
        if not self.special_tokens:
            return list(text.encode("utf-8"))
        ids: list[int] = []
        for piece in self._split.split(text):
            special = self._special_ids.get(piece)
            if special is None:
                ids.extend(piece.encode("utf-8"))
            else:
                ids.append(special)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        data = bytearray()
        for token_id in ids:
            token_id = int(token_id)
            if 0 <= token_id < 256:
                data.append(token_id)
            elif 259 <= token_id < self.vocab_size:
                data.extend(self.special_tokens[token_id - 259].encode("utf-8"))
        # A model may emit bytes that are no UTF-8; they show as U+FFFD rather than stop a run.
        return data.decode("utf-8", errors="replace")

    def token_text(self, token_id: int) -> str:
        token_id = int(token_id)
        if not 0 <= token_id < self.vocab_size:
            return _unused(token_id)
        if token_id >= 259:
            return self.special_tokens[token_id - 259]
        if token_id >= 256:
            return ("<pad>", "<bos>", "<eos>")[token_id - 256]
        return chr(token_id) if 32 <= token_id < 127 else f"<0x{token_id:02X}>"

    def token_bytes(self) -> list[bytes]:
        hidden = [b"", b"", b""]  # pad, bos, eos
        tags = [token.encode("utf-8") for token in self.special_tokens]
        return [bytes([value]) for value in range(256)] + hidden + tags


class SymbolTokenizer(Tokenizer):
    """The alphabet of the symbol tasks (tasks/symbols/alphabet.py): one character, one id.

    `decode` leaves out eos but shows a pad: one that a model samples is a wrong symbol, which a
    reward on the text must see as the verifier on the device does.

    Raises:
        ValueError: by `encode`, for a character that is no symbol.
    """

    def __init__(self) -> None:
        self.vocab_size = alphabet.VOCAB_SIZE
        self.pad_id, self.bos_id, self.eos_id = alphabet.PAD_ID, None, alphabet.EOS_ID

    def encode(self, text: str) -> list[int]:
        return alphabet.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        known = (int(token_id) for token_id in ids if 0 <= int(token_id) < self.vocab_size)
        return alphabet.decode(token_id for token_id in known if token_id != self.eos_id)

    def token_text(self, token_id: int) -> str:
        if not 0 <= int(token_id) < self.vocab_size:
            return _unused(token_id)
        shown = {self.pad_id: "<pad>", self.eos_id: "<eos>"}
        return shown.get(int(token_id)) or alphabet.decode([token_id])

    def token_bytes(self) -> list[bytes]:
        return [self.decode([token_id]).encode() for token_id in range(self.vocab_size)]


class HFTokenizer(Tokenizer):
    """A Hugging Face tokenizer from a local folder; never reaches for the network.

    `encode` adds no special tokens: chat templates write their own. No code of the folder is run.

    Args:
        path: folder with tokenizer files, relative to the current directory.
        special_tokens: tags that must be one token each in this vocabulary.

    Raises:
        ValueError: without the `hf` extra; if the folder is missing, damaged, needs code of its own
            or has no eos, or a tag is not one token.
    """

    def __init__(self, path: str | Path, special_tokens: Sequence[str] = ()) -> None:
        self.folder = Path(path)
        self.inner = _auto_tokenizer(self.folder)
        if self.inner.eos_token_id is None:
            raise ValueError(f"The tokenizer in {self.folder} names no eos token ({FIELD}.path).")
        ids = self.inner.get_vocab().values()
        self._known = np.zeros(max(ids) + 1, bool)
        self._known[list(ids)] = True
        self.vocab_size = len(self._known)
        self.bos_id = self.inner.bos_token_id
        self.eos_id = int(self.inner.eos_token_id)
        # pad == eos is fine: masks, not ids, say what counts.
        self.pad_id = self.eos_id if self.inner.pad_token_id is None else self.inner.pad_token_id
        self._hidden = {self.pad_id, self.bos_id, self.eos_id}  # ids that are no text
        added = self.inner.added_tokens_decoder.values()
        self.control_tokens = tuple(token.content for token in added if token.special)
        self.begin = self._added_before()
        self._line_feed = self.encode("\n")
        self.special_tokens = tuple(special_tokens)
        for token in self.special_tokens:
            if len(self.encode(token)) != 1:
                raise ValueError(
                    f"{token!r} is {len(self.encode(token))} tokens in {self.folder}, not one "
                    f"({FIELD}.special_tokens)."
                )

    def _added_before(self) -> tuple[int, ...]:
        """What it puts before a text. What some put behind, an eos, belongs to no prompt."""
        alone, whole = self.encode("a"), list(self.inner.encode("a"))
        for place in range(len(whole) - len(alone) + 1):
            end = place + len(alone)
            if alone and whole[place:end] == alone:
                if whole[end:]:
                    say_once(
                        f"the tokenizer in {self.folder} puts {whole[end:]} behind a text; prompts "
                        f"do without ({FIELD}.path)"
                    )
                return tuple(whole[:place])
        raise ValueError(
            f"The tokenizer in {self.folder} changes a text where it adds special tokens: 'a' is "
            f"{alone} without them and {whole} with them ({FIELD}.path)."
        )

    def known(self) -> np.ndarray:
        return self._known

    def encode(self, text: str) -> list[int]:
        return list(self.inner.encode(text, add_special_tokens=False))

    def encode_inside(self, text: str) -> list[int]:
        return self._without_first_space(self.encode, text)

    def encode_plain(self, text: str) -> list[int]:
        def encode(text: str) -> list[int]:
            return list(
                self.inner.encode(text, add_special_tokens=False, split_special_tokens=True)
            )

        return self._without_first_space(encode, text)

    def _without_first_space(self, encode: Callable[[str], list[int]], text: str) -> list[int]:
        """Sentencepiece puts a space before a text, which a text in the middle must not get."""
        after, count = encode("\n" + text), len(self._line_feed)
        return after[count:] if after[:count] == self._line_feed else encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        shown = (int(token_id) for token_id in ids)
        return self.inner.decode(
            [i for i in shown if i not in self._hidden and self._is_known(i)],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )

    def _is_known(self, token_id: int) -> bool:
        return 0 <= token_id < self.vocab_size and bool(self._known[token_id])

    def token_text(self, token_id: int) -> str:
        if not self._is_known(int(token_id)):
            return _unused(token_id)
        text = self.inner.decode([int(token_id)], clean_up_tokenization_spaces=False)
        return text or str(self.inner.convert_ids_to_tokens(int(token_id)))

    def token_bytes(self) -> list[bytes]:
        """See `Tokenizer.token_bytes`; about a second for 150,000 tokens.

        Raises:
            ValueError: if the tokenizer is not a fast one, or joins tokens in another way than
                byte-level BPE, sentencepiece or words between spaces do.
        """
        if not getattr(self.inner, "is_fast", False):
            raise ValueError(
                f"The bytes of tokens are known for fast tokenizers (tokenizer.json) only, "
                f"{self.inner.name_or_path} holds a {type(self.inner).__name__} ({FIELD}.path)."
            )
        decoder = json.loads(self.inner.backend_tokenizer.to_str())["decoder"]
        ids = range(self.vocab_size)
        names = [self.inner.convert_ids_to_tokens(i) if self._known[i] else None for i in ids]
        shown = [None if i in self._hidden else names[i] for i in ids]
        return spell_tokens(shown, decoder, f"{FIELD}.path")


def _auto_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    if not folder.is_dir():
        raise ValueError(
            f"No tokenizer folder {str(folder)!r}; give 'byte', 'symbols' or a local "
            f"folder with tokenizer files, nothing is downloaded ({FIELD}.path)."
        )
    # Without files transformers may make an empty tokenizer of the model's family.
    if not holds_tokenizer(folder):
        raise ValueError(
            f"{folder} holds none of {', '.join(TOKENIZER_FILES)}: name a tokenizer's folder, or "
            f"'byte' ({FIELD}.path)."
        )
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ValueError(
            "A Hugging Face tokenizer needs the extra 'hf': pip install 'rljax[hf]' "
            f"({FIELD}.path)."
        ) from error
    # The parsers of tokenizer files raise anything, plain Exception and KeyError among them.
    with blamed(f"{folder} holds no usable tokenizer", Exception, field=f"{FIELD}.path"):
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )


def holds_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has a file of a Hugging Face tokenizer."""
    return any(next(Path(folder).glob(name), None) for name in TOKENIZER_FILES)


def _unused(token_id: int) -> str:
    return f"<unused {int(token_id)}>"


def load_tokenizer(
    kind_or_path: str | Path, special_tokens: Sequence[str] = ()
) -> ByteTokenizer | SymbolTokenizer | HFTokenizer:
    """The tokenizer "byte" or "symbols", else the Hugging Face one in that folder.

    Raises:
        ValueError: special tokens with "symbols", whose alphabet is fixed; see also the classes.
    """
    if kind_or_path == "byte":
        return ByteTokenizer(special_tokens)
    if kind_or_path == "symbols":
        if special_tokens:
            raise ValueError(
                f"The tokenizer 'symbols' has a fixed alphabet and takes no special tokens, got "
                f"{tuple(special_tokens)} ({FIELD}.special_tokens)."
            )
        return SymbolTokenizer()
    return HFTokenizer(kind_or_path, special_tokens)


def special_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    """The ids of pad, bos and eos, by the keys of a checkpoint's config.json."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos")}


def check_round_trip(text: str, tokenizer: Tokenizer, field: str) -> None:
    """Makes sure that a tokenizer gives a text back, leading spaces aside.

    A phrase that generated text is searched for must pass, or it would never be found.

    Raises:
        ValueError: if `decode(encode(text))` differs: an unknown word, a letter that is normalised
            away, or the text of pad, bos or eos, which `decode` leaves out.
    """
    back = tokenizer.decode(tokenizer.encode(text))
    if back.lstrip(" ") != text.lstrip(" "):
        raise ValueError(f"The tokenizer cannot write {text!r}, it makes {back!r} of it ({field}).")
