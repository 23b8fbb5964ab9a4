"""Codes that OPUS-MT gives to groups of languages: ISO 639-5, and its own in capitals."""

from __future__ import annotations

from dragoman_export.imports.switches import listed

_GROUPS = frozenset(
    listed(
        """
    aav afa alg alv apa aqa aql art ath auf aus awd azc bad bai bat ber bih bnt btk cai cau cba ccn ccs cdc cdd
    cel cmc cpe cpf cpp crp csu cus day dmn dra egx esx euq fiu fox gem gme gmq gmw grk hmx hok hyx iir ijo inc
    ine ira iro itc jpx kar kdo khi kro map mkh mno mul mun myn nah nai ngf nic nub omq omv oto paa phi plf poz
    pqe pqw pra qwe roa sai sal sdv sem sgn sio sit sla smi son sqj ssa syd tai tbq trk tup tut tuw urj wak wen
    xgn xnd ypk zhx zle zls zlw znd
    """
    )
)


def is_group(code: str) -> bool:
    """Whether a code stands for several languages."""
    return code in _GROUPS or (code.isupper() and len(code) >= 2) or "+" in code or code.count("_") > 1
