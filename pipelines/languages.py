"""The languages Whisper knows: its codes (ISO 639-1 where there is one) and the English names answers carry."""

import re

LANGUAGES = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}

WRITTEN_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "bo"})


def language_name(code: str) -> str:
    return LANGUAGES.get(code, code)


THREE_LETTERS = {
    "eng": "en", "zho": "zh", "chi": "zh", "cmn": "zh", "deu": "de", "ger": "de", "spa": "es", "rus": "ru", "kor": "ko",
    "fra": "fr", "fre": "fr", "jpn": "ja", "por": "pt", "tur": "tr", "pol": "pl", "cat": "ca", "nld": "nl", "dut": "nl",
    "ara": "ar", "arb": "ar", "swe": "sv", "ita": "it", "ind": "id", "hin": "hi", "fin": "fi", "vie": "vi", "heb": "he",
    "ukr": "uk", "ell": "el", "gre": "el", "msa": "ms", "may": "ms", "zsm": "ms", "ces": "cs", "cze": "cs", "ron": "ro",
    "rum": "ro", "mol": "ro", "dan": "da", "hun": "hu", "tam": "ta", "nor": "no", "nob": "no", "tha": "th", "urd": "ur",
    "hrv": "hr", "bul": "bg", "lit": "lt", "lat": "la", "mri": "mi", "mao": "mi", "mal": "ml", "cym": "cy", "wel": "cy",
    "slk": "sk", "slo": "sk", "tel": "te", "fas": "fa", "per": "fa", "pes": "fa", "lav": "lv", "lvs": "lv", "ben": "bn",
    "srp": "sr", "aze": "az", "azj": "az", "slv": "sl", "kan": "kn", "est": "et", "ekk": "et", "mkd": "mk", "mac": "mk",
    "bre": "br", "eus": "eu", "baq": "eu", "isl": "is", "ice": "is", "hye": "hy", "arm": "hy", "nep": "ne", "npi": "ne",
    "mon": "mn", "khk": "mn", "bos": "bs", "kaz": "kk", "sqi": "sq", "alb": "sq", "als": "sq", "swa": "sw", "swh": "sw",
    "glg": "gl", "mar": "mr", "pan": "pa", "sin": "si", "khm": "km", "sna": "sn", "yor": "yo", "som": "so", "afr": "af",
    "oci": "oc", "kat": "ka", "geo": "ka", "bel": "be", "tgk": "tg", "snd": "sd", "guj": "gu", "amh": "am", "yid": "yi",
    "ydd": "yi", "lao": "lo", "uzb": "uz", "uzn": "uz", "fao": "fo", "hat": "ht", "pus": "ps", "pbt": "ps", "tuk": "tk",
    "nno": "nn", "mlt": "mt", "san": "sa", "ltz": "lb", "mya": "my", "bur": "my", "bod": "bo", "tib": "bo", "tgl": "tl",
    "fil": "tl", "mlg": "mg", "plt": "mg", "asm": "as", "tat": "tt", "lin": "ln", "hau": "ha", "bak": "ba", "jav": "jw",
    "sun": "su",
}  # fmt: skip
"""ISO 639-3 and 639-2/B, each macrolanguage's largest member among them. Whisper's own codes are "haw" and "yue"."""

OTHER_CODES = {"nb": "no", "jv": "jw", "iw": "he", "in": "id", "mo": "ro", "ji": "yi"}
"""Norwegian Bokmål; Javanese, whose code Whisper has wrong; and codes that were retired."""

CANTONESE = re.compile(r"^(zh|zho|chi)[-_]yue")
"""BCP 47 also has it as a kind of Chinese."""

REGION_OR_SCRIPT = re.compile(r"[a-z0-9]{1,8}([-_][a-z0-9]{1,8})*", re.ASCII)


def language_of(code: str) -> str | None:
    """Whisper's code for one of ISO 639-1, -2 or -3 in any case, whatever region or script stands behind it (BCP 47:
    "pt-BR", "zh-Hans", "en_US"); None for what is none, or of a language that Whisper does not know."""
    first, *rest = re.split("[-_]", CANTONESE.sub("yue", code.strip().lower()), maxsplit=1)
    if rest and not REGION_OR_SCRIPT.fullmatch(rest[0]):
        return None
    known = OTHER_CODES.get(first) or THREE_LETTERS.get(first) or first
    return known if known in LANGUAGES else None
