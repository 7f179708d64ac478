//! Detects the language of a text.

use whatlang::{Detector, Lang, Script};

/// The languages that can be detected: whatlang's name, and the code of two letters, which is that of ISO 639-1.
const CODES: [(Lang, &str); 70] = [
    (Lang::Afr, "af"),
    (Lang::Aka, "ak"),
    (Lang::Amh, "am"),
    (Lang::Ara, "ar"),
    (Lang::Aze, "az"),
    (Lang::Bel, "be"),
    (Lang::Ben, "bn"),
    (Lang::Bul, "bg"),
    (Lang::Cat, "ca"),
    (Lang::Ces, "cs"),
    (Lang::Cmn, "zh"),
    (Lang::Cym, "cy"),
    (Lang::Dan, "da"),
    (Lang::Deu, "de"),
    (Lang::Ell, "el"),
    (Lang::Eng, "en"),
    (Lang::Epo, "eo"),
    (Lang::Est, "et"),
    (Lang::Fin, "fi"),
    (Lang::Fra, "fr"),
    (Lang::Guj, "gu"),
    (Lang::Heb, "he"),
    (Lang::Hin, "hi"),
    (Lang::Hrv, "hr"),
    (Lang::Hun, "hu"),
    (Lang::Hye, "hy"),
    (Lang::Ind, "id"),
    (Lang::Ita, "it"),
    (Lang::Jav, "jv"),
    (Lang::Jpn, "ja"),
    (Lang::Kan, "kn"),
    (Lang::Kat, "ka"),
    (Lang::Khm, "km"),
    (Lang::Kor, "ko"),
    (Lang::Lat, "la"),
    (Lang::Lav, "lv"),
    (Lang::Lit, "lt"),
    (Lang::Mal, "ml"),
    (Lang::Mar, "mr"),
    (Lang::Mkd, "mk"),
    (Lang::Mya, "my"),
    (Lang::Nep, "ne"),
    (Lang::Nld, "nl"),
    (Lang::Nob, "no"),
    (Lang::Ori, "or"),
    (Lang::Pan, "pa"),
    (Lang::Pes, "fa"),
    (Lang::Pol, "pl"),
    (Lang::Por, "pt"),
    (Lang::Ron, "ro"),
    (Lang::Rus, "ru"),
    (Lang::Sin, "si"),
    (Lang::Slk, "sk"),
    (Lang::Slv, "sl"),
    (Lang::Sna, "sn"),
    (Lang::Spa, "es"),
    (Lang::Srp, "sr"),
    (Lang::Swe, "sv"),
    (Lang::Tam, "ta"),
    (Lang::Tel, "te"),
    (Lang::Tgl, "tl"),
    (Lang::Tha, "th"),
    (Lang::Tuk, "tk"),
    (Lang::Tur, "tr"),
    (Lang::Ukr, "uk"),
    (Lang::Urd, "ur"),
    (Lang::Uzb, "uz"),
    (Lang::Vie, "vi"),
    (Lang::Yid, "yi"),
    (Lang::Zul, "zu"),
];

/// Other codes of languages, mostly of three letters, and the code of two letters that each becomes.
const ALIASES: [(&str, &str); 14] = [
    ("cmn", "zh"),
    ("zho", "zh"),
    ("chi", "zh"),
    ("nob", "no"),
    ("nb", "no"),
    ("nn", "no"),
    ("pes", "fa"),
    ("per", "fa"),
    ("ger", "de"),
    ("fre", "fr"),
    ("dut", "nl"),
    ("gre", "el"),
    ("iw", "he"),
    ("in", "id"),
];

/// All codes of ISO 639-1, which have two letters.
const ISO_639_1: &str = "\
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es \
    et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj \
    kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv \
    ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti \
    tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";

/// The language is detected from at most this many characters at the beginning of a text.
const LOOKED_AT: usize = 2_000;

/// With fewer letters, the detected language is not trusted.
const FEW_LETTERS: usize = 24;

/// The normalised code of a language: the first part in lower case, as two letters where ISO 639-1 has them (`zh-CN` and `cmn` become
/// `zh`).
///
/// ```
/// assert_eq!(trivec_search::analyze::normalize_code("zh-CN"), "zh");
/// assert_eq!(trivec_search::analyze::normalize_code("deu"), "de");
/// ```
pub fn normalize_code(code: &str) -> String {
    let first = code.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == first).map(|(_, code)| *code);
    let by_name = || CODES.iter().find(|(lang, _)| lang.code() == first).map(|(_, code)| *code);
    alias.or_else(by_name).map_or(first, str::to_owned)
}

/// Whether [`detect`] can return this code.
pub fn is_detected(code: &str) -> bool {
    CODES.iter().any(|(_, known)| *known == code)
}

/// Whether a code from [`normalize_code`] names a language. Two letters must be a code of ISO 639-1. Three letters may be any, because ISO 639-3
/// has some 8,000 codes, except those that stand for no language, such as `und`.
///
/// ```
/// use trivec_search::analyze::is_language;
///
/// assert!(is_language("de") && is_language("lo") && is_language("ceb"));
/// assert!(!is_language("xx") && !is_language("german") && !is_language("und"));
/// ```
pub fn is_language(code: &str) -> bool {
    let is_three = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_lowercase());
    ISO_639_1.split(' ').any(|known| known == code)
        || is_detected(code)
        || is_three && !["und", "mis", "mul", "zxx"].contains(&code)
}

/// The code of a text's language, and whether it is certain; `None` if none is found. `among` has the codes of the languages that it can
/// be; if it is empty, all that can be detected.
pub fn detect(text: &str, among: &[String]) -> Option<(String, bool)> {
    let start: String = text.chars().take(LOOKED_AT).collect();
    let allowed: Vec<Lang> =
        CODES.iter().filter(|(_, code)| among.iter().any(|one| one == code)).map(|(lang, _)| *lang).collect();
    if !among.is_empty() && allowed.is_empty() {
        return None;
    }
    let detector = if among.is_empty() { Detector::new() } else { Detector::with_allowlist(allowed) };
    let info = detector.detect(&start)?;
    let code = CODES.iter().find(|(lang, _)| *lang == info.lang()).map(|(_, code)| (*code).to_owned())?;
    let letters = start.chars().filter(|c| c.is_alphabetic()).count();
    // If only one language uses the script, the language is certain.
    let only = info.script().langs().len() == 1
        || matches!(info.script(), Script::Mandarin | Script::Hiragana | Script::Katakana);
    Some((code, only || (info.is_reliable() && letters >= FEW_LETTERS)))
}

/// Whether a word is in a script in which the language is written. True for languages that cannot be detected, because their scripts are
/// not known.
pub(super) fn writes(lang: &str, word: &str) -> bool {
    let Some((lang, _)) = CODES.iter().find(|(_, code)| *code == lang) else { return true };
    whatlang::detect_script(word).is_none_or(|script| script.langs().contains(lang))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_one_code() {
        for (lang, code) in CODES {
            assert_eq!(normalize_code(lang.code()), code);
            assert_eq!(CODES.iter().filter(|(_, other)| *other == code).count(), 1, "{code}");
        }
        assert_eq!(CODES.len(), Lang::all().len());
    }

    #[test]
    fn languages_are_found_among_those_of_the_index() {
        let german = "Die Bundesregierung hat gestern ein neues Gesetz über erneuerbare Energien vorgestellt.";
        assert_eq!(detect(german, &[]), Some(("de".to_owned(), true)));
        assert_eq!(detect(german, &["en".to_owned(), "ru".to_owned()]).unwrap().0, "en");
        assert_eq!(detect("苹果公司发布新手机", &[]), Some(("zh".to_owned(), true)));
        assert_eq!(detect("ประเทศไทยมีอากาศร้อน", &[]), Some(("th".to_owned(), true)));
        assert!(!detect("red shoes", &[]).is_some_and(|(_, sure)| sure), "two words are not sure");
        assert_eq!(detect("12 345 !", &[]), None);
        assert_eq!(detect(german, &["xx".to_owned()]), None);
    }

    #[test]
    fn codes_are_told_by_their_first_part() {
        for (code, expected) in
            [("EN", "en"), ("pt_BR", "pt"), ("cmn-Hans", "zh"), ("nb", "no"), ("xx-yy", "xx"), ("", "")]
        {
            assert_eq!(normalize_code(code), expected);
        }
    }
}
