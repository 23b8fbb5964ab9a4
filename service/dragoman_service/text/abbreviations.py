"""What a full stop after a word means in each language: abbreviations, ordinals, and the words that begin sentences.

An entry in small letters stands for every spelling; one with a capital only for itself ("Sat.", but not "He sat.").
"""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.text.characters import word_set


@dataclass(frozen=True, slots=True)
class Abbreviations:
    """The words of one language, without their last full stop."""

    never: frozenset[str] = frozenset()
    """No sentence ends here: something must follow, such as the name after a title."""
    number: frozenset[str] = frozenset()
    """Abbreviations if a number follows, else words: "No. 5"."""
    maybe: frozenset[str] = frozenset()
    """A sentence ends here only if the next word is one of `starters`: "etc. The"."""
    starters: frozenset[str] = frozenset()
    """Words that are hardly ever in capitals unless they begin a sentence."""
    endings: tuple[str, ...] = ()
    """Ends of compounds that are abbreviations: Hauptstr."""
    ordinals: bool = False
    """Whether a number with a full stop is an ordinal: "Die 5. Klasse"."""
    dates: frozenset[str] = frozenset()
    """Months, days and the like, which may follow an ordinal or "a.m." in the same sentence."""


_ANYWHERE_NEVER = word_set("dr mr mrs ms prof vs cf e.g i.e डॉ श्री")
_ANYWHERE_MAYBE = word_set("st etc inc ltd co corp jr sr bros al approx ca max min")
_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"

_ENGLISH = Abbreviations(
    never=_ANYWHERE_NEVER
    | word_set(
        "messrs mme mlle rev hon fr gov sen rep gen col maj capt cmdr lt sgt cpl pvt adm supt det insp pres amb "
        "atty esq dist viz eg ie mt ft fig figs eq eqs ex repr aka a.k.a w.r.t Mx Sec Secs Ch Pt Vol Vols"
    ),
    number=word_set(
        "est no nos p pp fig figs sec secs ch chap vol vols art arts par para app pt nr ver v c ca circa op eq approx "
        "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
    ),
    maybe=_ANYWHERE_MAYBE
    | word_set(
        "ave blvd rd hwy bldg apt ste dept univ assn intl natl govt mfg plc llc lp ext tel misc incl excl temp "
        "avg tbsp tsp oz lb lbs pkg pt qt gal doz hr hrs min mins yr yrs mo wk ft yd sq cu Ph.D M.D B.A M.A B.Sc "
        "M.Sc D.Phil Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
        "Ala Ariz Ark Calif Colo Conn Fla Ga Ill Ind Kan Ky La Mass Md Mich Minn Miss Mont Neb Nev Okla Ore Pa "
        "Tenn Tex Va Vt Wash Wis Wyo Ont Que"
    ),
    starters=word_set(
        "The He She It We They I You This That These Those There Here But And If When While After As However His "
        "Her Its Our Their My Your A An What Who How Why Where Yes Not Then Also So In On At For To With From By "
        "Although Because Since Now Let Do Did Does Is Are Was Were Can Could Will Would Some Many Most All Both "
        "Each Every Please Once Thank Thanks"
    ),
    dates=word_set(
        f"{_DAYS} {_MONTHS} Eastern Pacific Central Mountain Zulu UTC GMT Mon Tue Wed Thu Fri Sat Sun Today Tomorrow"
    ),
)
_GERMAN = Abbreviations(
    never=word_set(
        "dr prof dipl ing hr fr frl st vgl bspw bzw bsp sog z.b z.t z.h d.h i.d.r u.a u.u v.a o.ä o.g m.e i.a i.v "
        "i.e e.g ggf ggfs evtl inkl exkl zzgl abzgl einschl ausschl ca zirka mind gem lt bes insb insbes allg "
        "eigtl urspr geb gest verh kath evang ev röm amtl angebl betr bzgl dgl ehem entspr erw ff gegr gen hrsg "
        "jew kgl kl gr lfd Fa Hrn Frhr Graf Gebr Ges Abb Abk Anm Art Abs Aufl Bd Bde Bl Hbf Jh Jhd Kap Mio Mrd Nr "
        "Nrn Pkt Pos Rd Ref S Sp Str Tab Tel Tsd Ziff Zif Mag Dkfm Med rer nat phil jur habil theol oec pol h.c "
        "med vs d h z b i v n"
    ),
    number=word_set(
        "nr nrn s bd kap abs art abb tab anm ziff pos ca str § Jan Feb Mär Apr Jun Jul Aug Sep Sept Okt Nov Dez"
    ),
    maybe=word_set(
        "max min usw etc usf u.v.m u.ä o.dgl co inc ltd corp jun sen jr sr al str std min sek tel Mo Di Mi Do Fr "
        "Sa So Jan Feb Mär Apr Jun Jul Aug Sep Sept Okt Nov Dez n.chr v.chr chr e.v a.d a.m p.m uvm"
    ),
    starters=word_set(
        "Der Die Das Ein Eine Er Sie Es Wir Ihr Ich Du Dies Diese Dieser Dieses Dort Hier Da Dann Danach Doch "
        "Aber Und Oder Auch In Im Am An Auf Bei Mit Nach Seit Von Vor Zu Zum Zur Für Wenn Weil Als Wie Was Wer Wo "
        "Warum Man Nicht Nur So Seine Ihre Unsere Mein Meine Kein Keine Ja Nein Jetzt Heute Dem Den Des Einer "
        "Einem Durch Über Unter Bis Ob Damit Dabei Dazu Dafür Daher Deshalb Jedoch Allerdings Trotzdem Denn Sein "
        "Ist Sind War Hat Bitte Viele Alle Beide Damals Später Mehr Danke"
    ),
    endings=("str",),
    dates=word_set(
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember Jahrhundert Klasse"
    ),
    ordinals=True,
)
_FRENCH = Abbreviations(
    never=word_set(
        "m mm mme mmes mlle mlles dr pr me mgr st ste cf ex p.ex c.-à-d env av boul bd fig chap art vol éd réf tél n°"
    ),
    number=word_set("p pp art chap fig vol no nos n env éd t al § janv févr avr juil sept oct nov déc"),
    maybe=word_set("etc inc ltd cie sté s.a s.a.r.l jr sr al janv févr avr juil sept oct nov déc apr j.-c h min max"),
    starters=word_set(
        "Le La Les L Un Une Des Il Elle Ils Elles On Nous Vous Je Tu Ce Cet Cette Ces C Cela Ceci Mais Et Ou Or "
        "Donc Si Quand Lorsque Comme Après Avant Dans En Au Aux À Pour Par Avec Sans Sur Selon Son Sa Ses Leur "
        "Leurs Mon Ma Mes Notre Votre Qui Que Quoi Où Comment Pourquoi Oui Non Puis Alors Ainsi Cependant "
        "Toutefois Depuis Pendant Ici Là"
    ),
)
_SPANISH = Abbreviations(
    never=word_set(
        "ee sr sra sres sras srta d dña dr dra dres prof profa lic ing arq gral cnel cap sto sta ud uds vd vds "
        "p.ej ej pág págs fig cap art núm av avda excmo ilmo"
    ),
    number=word_set("p pp pág págs núm no nº art cap fig vol t aprox ene feb mar abr may jun jul ago sept oct nov dic"),
    maybe=word_set("etc uu cía s.a s.l ltda inc ltd jr al aprox ee.uu a.c d.c a.m p.m máx mín tel"),
    starters=word_set(
        "El La Los Las Un Una Unos Unas Él Ella Ellos Ellas Nosotros Yo Tú Usted Ustedes Esto Este Esta Estos "
        "Estas Ese Esa Eso Pero Y O Si Cuando Como Después Antes En De Con Sin Por Para Según Su Sus Mi Mis No Sí "
        "Que Qué Quién Dónde Cómo Entonces También Además Aunque Sin Desde Hasta Ahora Aquí Allí Lo Al Se Es Hay "
        "Luego Después"
    ),
)
_ITALIAN = Abbreviations(
    never=word_set(
        "sig sig.ra sigg dott dott.ssa dr prof prof.ssa ing avv arch geom rag on sen s ss es p.es cfr fig pag "
        "pagg art cap vol n ecc.mo gent spett"
    ),
    number=word_set(
        "p pp pag pagg art artt att n nn cap fig vol c ca circa gen feb mar apr mag giu lug ago set sett ott nov dic"
    ),
    maybe=word_set("ecc etc s.p.a s.r.l spa srl inc ltd jr al a.c d.c max min tel"),
    starters=word_set(
        "Il Lo La I Gli Le L Un Uno Una Lui Lei Loro Noi Voi Io Tu Egli Ella Essi Questo Questa Questi Queste "
        "Quello Quella Ma E Ed O Se Quando Come Dopo Prima In Nel Nella Nei A Al Alla Con Senza Per Da Dal Di Del "
        "Su Sul Non Sì No Che Chi Dove Perché Allora Anche Inoltre Tuttavia Poi Ora Qui Il Suo Sua"
    ),
)
_PORTUGUESE = Abbreviations(
    never=word_set(
        "sr sra srs sras srta dr dra drs prof profa eng d dona exmo ilmo v.exa av r pág págs fig cap art núm p.ex "
        "ex gen cel"
    ),
    number=word_set("p pp pág págs n no nº art cap fig vol jan fev mar abr mai jun jul ago set out nov dez"),
    maybe=word_set("etc cia ltda s.a inc ltd jr al aprox a.c d.c a.m p.m máx mín tel"),
    starters=word_set(
        "O A Os As Um Uma Ele Ela Eles Elas Nós Eu Tu Você Vocês Isto Isso Este Esta Esse Essa Mas E Ou Se Quando "
        "Como Depois Antes Em No Na Nos Nas De Do Da Com Sem Por Para Segundo Seu Sua Meu Minha Não Sim Que Quem "
        "Onde Então Também Além Embora Desde Até Agora Aqui Ao À É Há"
    ),
)
_DUTCH = Abbreviations(
    never=word_set(
        "dhr mevr mw mr mrs dr drs prof ir ing ds st bijv bv vgl d.w.z m.n o.a i.v.m t.o.v m.b.t t.a.v z.g zgn "
        "resp incl excl ca max min nl blz afb art hfst"
    ),
    number=word_set("nr nrs blz p pp art hfst afb ca jan feb mrt apr jun jul aug sept okt nov dec"),
    maybe=word_set("enz etc e.d inc ltd jr sr al n.v b.v a.u.b tel v.chr n.chr"),
    starters=word_set(
        "De Het Een Hij Zij Ze Wij We Ik Jij Je U Dit Dat Deze Die Er Hier Daar Maar En Of Als Toen Wanneer Na "
        "Voor In Op Bij Met Zonder Van Naar Om Zijn Haar Hun Mijn Wat Wie Waar Waarom Hoe Ja Nee Niet Dan Ook Nu "
        "Toch Dus Want Daarna"
    ),
)
_POLISH = Abbreviations(
    never=word_set(
        "p pan dr prof mgr inż hab lek św bł ks o gen płk mjr kpt por np tzn tj m.in ul al pl os im ds wg zob por "
        "ok tzw tys mln mld godz nr str rys tab art ust pkt poz"
    ),
    number=word_set("nr str s art ust pkt poz ok rys tab t r godz"),
    maybe=word_set("itd itp etc r w zł gr inc ltd jr ww n.e p.n.e sp z.o.o"),
    starters=word_set(
        "To Ten Ta Te Ci On Ona Ono Oni One My Wy Ja Ty Jest Są Był Była Nie Tak Ale I A Lub Jeśli Gdy Kiedy Jak "
        "Po Przed W We Na Z Ze Za Do Od Dla Przez Przy Jego Jej Ich Mój Nasz Co Kto Gdzie Dlaczego Wtedy Także "
        "Również Jednak Teraz Tu Tam Potem"
    ),
    ordinals=True,
)
_RUSSIAN = Abbreviations(
    never=word_set(
        "г гг г-н г-жа гр тов проф акад доц инж ген полк кап им ул пр пер пл просп наб обл р-н корп кв т.е т.н "
        "т.к т.о напр см ср стр рис табл гл ст п пп ч св ок тыс млн млрд руб"
    ),
    number=word_set("стр с рис табл гл ст п пп ч т № ок"),
    maybe=word_set("г гг в вв др пр т.д т.п и.о н.э до.н.э руб коп тыс млн млрд мин сек час км м см кг"),
    starters=word_set(
        "Он Она Оно Они Мы Вы Я Ты Это Этот Эта Эти Тот Та Те Там Тут Здесь Но А И Или Если Когда Как После До В "
        "Во На С Со За Из К От Для По При Его Её Их Мой Наш Что Кто Где Почему Тогда Также Однако Потом Не Да Нет "
        "У О Об Так Все"
    ),
)
_LANGUAGES = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": _SPANISH,
    "it": _ITALIAN,
    "pt": _PORTUGUESE,
    "nl": _DUTCH,
    "pl": _POLISH,
    "ru": _RUSSIAN,
}
_ORDINALS = word_set("bs cs da et eu fi fo hr hu is lb lt lv mk nb nn no sk sl sr tr")
"""Other languages in which a number with a full stop is an ordinal."""
_OTHER = Abbreviations(never=_ANYWHERE_NEVER, maybe=_ANYWHERE_MAYBE)
_OTHER_WITH_ORDINALS = Abbreviations(never=_ANYWHERE_NEVER, maybe=_ANYWHERE_MAYBE, ordinals=True)


def abbreviations_of(language: str) -> Abbreviations:
    """The words of a language.

    Args:
        language: A code such as "de". Every other language gets some words that are common to many.
    """
    return _LANGUAGES.get(language) or (_OTHER_WITH_ORDINALS if language in _ORDINALS else _OTHER)
