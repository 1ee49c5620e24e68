"""Numbers in words, 0 to 100."""

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_GERMAN = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
).split()
_GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
_SPANISH = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
).split()
_SPANISH_TENS = "_ treinta cuarenta cincuenta sesenta setenta ochenta noventa".split()
_FRENCH = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
).split()
_FRENCH_TENS = "vingt trente quarante cinquante soixante".split()


def in_words(number: int, language: str) -> str:
    """The number as it is counted ("twenty one", "einundzwanzig", "veintiuno", "vingt et un").

    Raises:
        ValueError: the number is not from 0 to 100.
    """
    if not 0 <= number <= 100:
        raise ValueError(f"only the numbers 0 to 100 have words here, got {number}")
    return _SPELLERS[language](number)


def before_noun(number: int, language: str, gender: str) -> str:
    """The number in front of a noun of this gender: Spanish and French decline a final "one"."""
    words = in_words(number, language)
    if language == "es" and number % 10 == 1 and number != 11:
        return words[:-1] + "a" if gender == "f" else "veintiún" if number == 21 else words[:-1]
    # seventy one and ninety one are sixty-eleven and eighty-eleven
    if language == "fr" and number % 10 == 1 and number not in (11, 71, 91) and gender == "f":
        return words + "e"
    return words


def _english(number: int) -> str:
    if number == 100:
        return "one hundred"
    if number < 20:
        return _ENGLISH[number]
    tens = _ENGLISH_TENS[number // 10 - 2]
    return f"{tens} {_ENGLISH[number % 10]}" if number % 10 else tens


def _german(number: int) -> str:
    if number == 100:
        return "hundert"
    if number < 20:
        return _GERMAN[number]
    tens, unit = _GERMAN_TENS[number // 10 - 2], number % 10
    if unit == 0:
        return tens
    return ("ein" if unit == 1 else _GERMAN[unit]) + "und" + tens


def _spanish(number: int) -> str:
    if number == 100:
        return "cien"
    if number < 30:
        return _SPANISH[number]
    tens = _SPANISH_TENS[number // 10 - 2]
    return f"{tens} y {_SPANISH[number % 10]}" if number % 10 else tens


def _french(number: int) -> str:
    if number == 100:
        return "cent"
    if number < 20:
        return _FRENCH[number]
    tens, unit = divmod(number, 10)
    if tens in (7, 9):
        tens, unit = tens - 1, unit + 10
    if tens == 8:
        return f"quatre-vingt-{_FRENCH[unit]}" if unit else "quatre-vingts"
    word = _FRENCH_TENS[tens - 2]
    if unit == 0:
        return word
    return f"{word} et {_FRENCH[unit]}" if unit in (1, 11) else f"{word}-{_FRENCH[unit]}"


_SPELLERS = {"en": _english, "de": _german, "es": _spanish, "fr": _french}
