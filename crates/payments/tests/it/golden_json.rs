//! A reader of the golden file that notices what nobody read.

use penstock_domain::{Address, B256, Rational, U256, Wei};
use serde_json::{Map, Value};

/// One JSON object. Every key has to be taken before the value is dropped.
pub struct Object {
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    pub fn new(path: impl Into<String>, value: Value) -> Self {
        let path = path.into();
        match value {
            Value::Object(fields) => Self { path, fields },
            other => panic!("{path}: not an object: {other}"),
        }
    }

    pub fn value(&mut self, key: &str) -> Value {
        self.fields.remove(key).unwrap_or_else(|| panic!("{}: no {key}", self.path))
    }

    pub fn maybe(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    pub fn object(&mut self, key: &str) -> Object {
        let value = self.value(key);
        Object::new(format!("{}.{key}", self.path), value)
    }

    /// A list that has something to test in it.
    pub fn list(&mut self, key: &str) -> Vec<Value> {
        let items = self.list_or_empty(key);
        assert!(!items.is_empty(), "{}.{key} is empty", self.path);
        items
    }

    pub fn list_or_empty(&mut self, key: &str) -> Vec<Value> {
        match self.value(key) {
            Value::Array(items) => items,
            other => panic!("{}.{key}: not a list: {other}", self.path),
        }
    }

    pub fn objects(&mut self, key: &str) -> Vec<Object> {
        let path = format!("{}.{key}", self.path);
        let items = self.list(key).into_iter().enumerate();
        items.map(|(n, item)| Object::new(format!("{path}[{n}]"), item)).collect()
    }

    pub fn text(&mut self, key: &str) -> String {
        match self.value(key) {
            Value::String(text) => text,
            other => panic!("{}.{key}: not a text: {other}", self.path),
        }
    }

    pub fn bytes(&mut self, key: &str) -> Vec<u8> {
        unhex(&self.text(key))
    }

    pub fn b256(&mut self, key: &str) -> B256 {
        B256::from_slice(&self.bytes(key))
    }

    pub fn array(&mut self, key: &str) -> [u8; 32] {
        self.b256(key).0
    }

    pub fn address(&mut self, key: &str) -> Address {
        Address::from_slice(&self.bytes(key))
    }

    pub fn u256(&mut self, key: &str) -> U256 {
        self.text(key).parse::<Wei>().unwrap().0
    }

    pub fn wei(&mut self, key: &str) -> Wei {
        Wei(self.u256(key))
    }

    pub fn rational(&mut self, key: &str) -> Rational {
        self.text(key).parse().unwrap()
    }

    pub fn u64(&mut self, key: &str) -> u64 {
        self.value(key).as_u64().unwrap()
    }

    pub fn flag(&mut self, key: &str) -> bool {
        self.value(key).as_bool().unwrap()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left: Vec<_> = self.fields.keys().collect();
            assert!(left.is_empty(), "{}: nobody tested {left:?}", self.path);
        }
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.strip_prefix("0x").unwrap()).unwrap()
}

#[test]
#[should_panic(expected = "payments.json: nobody tested [\"new\"]")]
fn a_key_that_nobody_reads_fails() {
    let mut file = Object::new("payments.json", serde_json::json!({"known": "x", "new": 1}));
    assert_eq!(file.text("known"), "x");
}
