//! What the tests share: the starter model, and a small multilingual collection.
#![allow(dead_code)]

use std::path::Path;
use std::sync::OnceLock;

use trivec::Model;
use trivec_search::{Document, Index, IndexOptions, ModelId};

/// The starter and its identity, made once.
pub fn model() -> &'static (Model, ModelId) {
    static MODEL: OnceLock<(Model, ModelId)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let model = Model::starter().unwrap();
        let id = ModelId::of(&model).unwrap();
        (model, id)
    })
}

/// Key, language, text. The keys are `TOPIC-LANGUAGE`: texts of one topic say the same.
pub const TEXTS: [(&str, &str, &str); 30] = [
    ("phone-en", "en", "Apple has presented a new phone with a better camera."),
    ("phone-zh", "zh", "苹果公司发布了配备更好相机的新手机。"),
    ("phone-de", "de", "Apple hat ein neues Telefon mit einer besseren Kamera vorgestellt."),
    ("phone-ru", "ru", "Компания Apple представила новый телефон с улучшенной камерой."),
    ("rain-en", "en", "It will rain heavily in the mountains tomorrow."),
    ("rain-zh", "zh", "明天山区将有大雨。"),
    ("rain-de", "de", "Morgen wird es in den Bergen stark regnen."),
    ("rain-ru", "ru", "Завтра в горах ожидается сильный дождь."),
    ("soup-en", "en", "This soup is cooked with carrots, onions and potatoes."),
    ("soup-zh", "zh", "这道汤是用胡萝卜、洋葱和土豆煮的。"),
    ("soup-de", "de", "Diese Suppe wird mit Karotten, Zwiebeln und Kartoffeln gekocht."),
    ("soup-ru", "ru", "Этот суп варят с морковью, луком и картофелем."),
    ("train-en", "en", "The train to Berlin leaves at seven in the morning."),
    ("train-zh", "zh", "开往柏林的火车早上七点出发。"),
    ("train-de", "de", "Der Zug nach Berlin fährt um sieben Uhr morgens ab."),
    ("train-ru", "ru", "Поезд в Берлин отправляется в семь часов утра."),
    ("doctor-en", "en", "The doctor told the patient to drink more water."),
    ("doctor-zh", "zh", "医生让病人多喝水。"),
    ("doctor-de", "de", "Der Arzt sagte dem Patienten, er solle mehr Wasser trinken."),
    ("doctor-ru", "ru", "Врач посоветовал пациенту пить больше воды."),
    ("book-en", "en", "I like to read books about the history of science."),
    ("book-zh", "zh", "我喜欢读关于科学史的书。"),
    ("book-de", "de", "Ich lese gern Bücher über die Geschichte der Wissenschaft."),
    ("book-ru", "ru", "Я люблю читать книги об истории науки."),
    ("football-en", "en", "The football team won the match in the last minute."),
    ("football-zh", "zh", "足球队在最后一分钟赢得了比赛。"),
    ("football-de", "de", "Die Fußballmannschaft gewann das Spiel in der letzten Minute."),
    ("football-ru", "ru", "Футбольная команда выиграла матч на последней минуте."),
    ("coffee-th", "th", "ฉันดื่มกาแฟทุกเช้า"),
    ("coffee-ar", "ar", "أشرب القهوة كل صباح"),
];

/// The collection as documents, with some metadata.
pub fn documents() -> Vec<Document> {
    let document = |(place, (key, lang, text)): (usize, &(&str, &str, &str))| {
        let topic = key.split('-').next().unwrap_or_default();
        Document::new(*key, *text)
            .with_lang(*lang)
            .with_field("topic", topic)
            .with_field("year", 2000 + place as i64)
            .with_field("score", place as f64 / 4.0)
            .with_field("tags", serde_json::json!([topic, lang]))
            .with_field("even", place % 2 == 0)
    };
    TEXTS.iter().enumerate().map(document).collect()
}

/// Creates an index and adds the collection in one commit.
pub fn indexed(directory: &Path, options: &IndexOptions) -> Index {
    let (model, id) = model();
    let index = Index::create(directory, id, options).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &documents()).unwrap();
    writer.commit().unwrap();
    index
}
