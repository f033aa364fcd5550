"""British spellings of English words as American ones, which Whisper's scores take for the same.

Rules for parts and families of words, each with the stems that it holds for, and a list of words that stand alone. What the
table of Whisper's own normaliser lists they spell as it does, and go on to forms of the same words that it forgets (`colourful`).
They differ from it where it errs or is at odds with itself: `pummelled` is `pummeled` and not `pummel`, `snowploughs` stays a
plural, `tranquilly` stays itself, and all of `archaeology` is spelt `archeology`.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Parts of words, wherever these stand.
_PARTS = """aesthe esthe, aetiolog etiolog, anaemi anemi, archaeolog archeolog, bougainvillaea bougainvillea, caesarean cesarean,
    chimaera chimera, diarrhoea diarrhea, draught draft, edoema edema, faec fec, foet fet, gaol jail, gonorrhoea gonorrhea,
    gryphon griffin, gynaec gynec, haem hem, homoeopath homeopath, leukaemi leukemi, manoeuvr maneuvr, mediaeval medieval,
    mould mold, moustach mustach, oesophag esophag, oestro estro, paed ped, palaeo paleo, pharmacopoeia pharmacopeia,
    plough plow, praesidi presidi, primaeval primeval, pyjama pajama, sceptic skeptic, sulph sulf, syphon siphon,
    toxaemi toxemi, tranquilli tranquili, waggon wagon, yoghourt yogurt, yoghurt yogurt"""
# Words that are like no others.
_ALONE = """accoutrements accouterments, aeon eon, aeons eons, aeroplane airplane, aeroplanes airplanes, ageing aging,
    almanack almanac, almanacks almanacs, aluminium aluminum, appal appall, appals appalls, artefact artifact,
    artefacts artifacts, axe ax, bannister banister, bannisters banisters, battleax battleaxe, baulk balk, baulked balked,
    baulking balking, baulks balks, behove behoove, behoved behooved, behoves behooves, bevvies bevies, bevvy bevy,
    biassed biased, biassing biasing, bingeing binging, busses buses, bussing busing, calliper caliper, callipers calipers,
    callisthenics calisthenics, cancelation cancellation, cancelations cancellations, cheque check, chequebook checkbook,
    chequebooks checkbooks, chequered checkered, cheques checks, chilli chili, clarinettist clarinetist,
    clarinettists clarinetists, connexion connection, connexions connections, cosier cozier, cosies cozies, cosiest coziest,
    cosily cozily, cosiness coziness, cosy cozy, crenelated crenellated, cypher cipher, cyphers ciphers, disc disk,
    discs disks, distil distill, distils distills, enrol enroll, enrols enrolls, enthral enthrall, enthrals enthralls,
    epaulette epaulet, epaulettes epaulets, fillet filet, filleted fileted, filleting fileting, fillets filets,
    flautist flutist, flautists flutists, fulfil fulfill, fulfilment fulfillment, fulfils fulfills, gage gauge, gaged gauged,
    gages gauges, gaging gauging, gasses gases, gipsies gypsies, glamor glamour, glueing gluing, grey gray,
    greyed grayed, greying graying, greyish grayish, greyness grayness, greys grays, groyne groin, groynes groins,
    inflexion inflection, inflexions inflections, instal install, instalment installment, instalments installments,
    instals installs, instil instill, instils instills, jewellery jewelry, judgement judgment, likeable likable,
    minibusses minibuses, misspelt misspelled, omelette omelet, omelettes omelets, philtre filter, philtres filters,
    phoney phony, pouffe pouf, pouffes poufs, pzazz pizzazz, sheikh sheik, storey story, storeys stories, tonne ton,
    tonnes tons, travelog travelogue, travelogs travelogues, tyre tire, tyres tires, videodisc videodisk,
    videodiscs videodisks, woollen woolen, woollens woolens, woollies woolies, woolly wooly, worshipped worshiped,
    worshipper worshiper, worshippers worshipers, worshipping worshiping"""
_OUR = """arb ard arm behavi belab cand clam clang col demean enam endeav fav ferv flav harb hon hum lab neighb od parl ranc rig
    rum sav savi splend succ tum val vap vig"""
_ISE = """accessor acclimat aggrand agon americ amort anesthet anglic annual antagon apolog appet author bapt bastard bowdler
    brutal canal cannibal canon capital caramel carbon categor cauter central character circular civil collectiv colon color
    commercial compartmental computer conceptual contextual criminal critic crystall custom democrat demon deodor deput digit
    dramat econom editorial empath emphas energ epitom equal eulog evangel exorc extempor external factor familiar fantas
    femin fertil fictional final formal fossil fratern galvan general ghetto glamor global harmon homogen hospital human
    hybrid hypnot hypothes ideal idol immobil immortal immun individual industrial initial institutional intellectual internal
    ion italic item jeopard legal legitim liberal lion liquid local magnet marginal material maxim mechan memor memorial
    mesmer metabol militar miniatur minim mobil modern moistur monopol moral motor national natural neutral normal optim organ
    ostrac oxid particular passiv pasteur patron pedestrian penal personal philosoph plagiar polar politic popular pressur
    priorit privat professional propagand proselyt public pulver radical random rational real recogn regular revital
    revolution rhapsod ritual romantic sanit satir scandal scrutin secular sensational sensit sentimental serial sermon signal
    social sodom solemn special stabil standard steril stigmat subsid summar symbol sympath synchron synthes systemat tantal
    tempor tender terror theor tranquil transistor traumat trivial tyrann union urban util vandal vapor verbal victim visual
    vocal vulcan vulgar western woman"""
_LL = """backpeda bedevi bejewe beve cance caro cavi channe chise counci counse crue cudge dia disembowe disheve drive due ename
    equa fue funne gambo grave grove grue impane imperi initia jewe labe leve libe marsha marve mode pane parce peda penci pumme
    quarre rave reve riva shove shrive signa snive snorke spira squirre stenci swive tasse towe tramme trave tria tunne wease
    yode"""
_RE = """amphitheat calib cent epicent fib goit lacklust lit louv lust maneuv meag met mit outmaneuv reconnoit sab saltpet scept
    sepulch somb spect theat"""
# Whole words: a stem and an ending, and what becomes of them.
_FAMILIES = [
    (r"((?:dis|mis|multi|techni|tri|un|water)?(?:{our}))our(\w*)", r"\1or\2"),
    (r"((?:de|dis|inter|over|re|un|under)?(?:{ise})i)s(e|ed|es|ing|ingly|er|ers|ab[ly]\w*|ance|ations?|ational|ement)", r"\1z\2"),
    (r"((?:psycho)?anal|breathal|catal|paral)ys(e|ed|es|er|ers|ing)", r"\1yz\2"),
    (r"((?:re|un)?(?:{ll}))ll(ed|er|ers|est|ing|ingly|ings|ist|ists|or|ors|ous|ously)", r"\1l\2"),
    (r"((?:centi|kilo|micro|milli)?(?:{re}))re(s?)", r"\1er\2"),
    (r"((?:centi|kilo|micro|milli)?(?:{re}))r(ability|able|ed|ing|ings)", r"\1er\2"),
    (r"(cent|fib|theat)re((?:fold|glass|goer|piece)s?)", r"\1er\2"),
    (r"(anal|catal|dial|epil|monol|prol)ogue(s?)", r"\1og\2"),
    (r"(catal)ogu(ed|ing)", r"\1og\2"),
    (r"(def|lic|off|pret)enc(e|ed|eless|es|ing)", r"\1ens\2"),
    (r"(aero|centi|kilo|milli|pro|)gramme(s?)", r"\1gram\2"),
    (r"(mo)u(lt(?:ed|ing|s|))", r"\1\2"),
    (r"(pract)is(e|ed|es|ing)", r"\1ic\2"),
]


def _table(pairs: str) -> dict[str, str]:
    return dict(pair.split() for pair in pairs.split(","))


_WORDS, _PIECES = _table(_ALONE), _table(_PARTS)
_PIECE = re.compile("|".join(_PIECES))
_STEMS = {"our": _OUR, "ise": _ISE, "ll": _LL, "re": _RE}
_RULES = [
    (re.compile(pattern.format(**{name: "|".join(stems.split()) for name, stems in _STEMS.items()})), american)
    for pattern, american in _FAMILIES
]


@lru_cache(maxsize=1 << 16)
def american(word: str) -> str:
    """A word in small letters, spelt as in the USA.

    >>> [american(word) for word in ("colourful", "anaesthetised", "travellers", "hour")]
    ['colorful', 'anesthetized', 'travelers', 'hour']
    """
    if word in _WORDS:
        return _WORDS[word]
    word = _PIECE.sub(lambda piece: _PIECES[piece[0]], word)
    for rule, spelling in _RULES:
        if found := rule.fullmatch(word):
            word = found.expand(spelling)
    return word
