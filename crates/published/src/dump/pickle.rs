//! Pickles that hold tensors and plain values, and nothing else: no opcode that could run code is read.
//!
//! *Source:* CPython, Lib/pickletools.py (opcodes of protocols 2 to 5); PyTorch, torch/serialization.py and
//! torch/_utils.py (`_rebuild_tensor_v2`, persistent ids of storages).

use std::collections::HashMap;

/// Place of a value in [`Pickle::items`].
pub(super) type Id = usize;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Other,
    Int(i64),
    Text(String),
    /// A tuple or a list.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Class),
    Storage(StorageRef),
    Tensor(TensorRef),
    Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// `torch.FloatStorage` and its kind, by the name before `Storage`.
    Storage(String),
}

/// A storage, named as in the archive.
#[derive(Debug, Clone)]
pub(super) struct StorageRef {
    pub key: String,
    pub kind: String,
    pub elements: u64,
}

/// A view of a storage, in elements.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    pub storage: StorageRef,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle {
    items: Vec<Item>,
    root: Id,
}

impl Pickle {
    pub(super) fn root(&self) -> &Item {
        &self.items[self.root]
    }

    pub(super) fn item(&self, id: Id) -> &Item {
        &self.items[id]
    }

    /// What is wrong is said in words.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine =
            Machine { bytes, at: 0, items: Vec::new(), stack: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Self { items: machine.items, root })
    }
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    items: Vec<Item>,
    stack: Vec<Id>,
    memo: HashMap<u64, Id>,
}

impl<'b> Machine<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("it ends within a value")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number of up to eight bytes.
    fn number(&mut self, count: usize) -> Result<u64, String> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize, String> {
        usize::try_from(self.number(count)?).map_err(|_| "a length that does not fit".to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("it ends within a name")?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Item::Text(text));
        Ok(())
    }

    fn push(&mut self, item: Item) {
        self.items.push(item);
        self.stack.push(self.items.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "an opcode without its operands".to_owned())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "an opcode without its operands".to_owned())
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let is_mark = |id: &Id| matches!(self.items[*id], Item::Mark);
        let at = self.stack.iter().rposition(is_mark).ok_or("an opcode without its mark")?;
        let values = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(values)
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let at = self.stack.len().checked_sub(count).ok_or("an opcode without its operands")?;
        let values = self.stack.split_off(at);
        self.push(Item::Sequence(values));
        Ok(())
    }

    fn get(&mut self, index: u64) -> Result<(), String> {
        let id = self.memo.get(&index).copied().ok_or("a reference to nothing")?;
        self.stack.push(id);
        Ok(())
    }

    fn run(&mut self) -> Result<Id, String> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                0x80 => {
                    let protocol = self.number(1)?;
                    if !(2..=5).contains(&protocol) {
                        return Err(format!("protocol {protocol} of pickles is not read"));
                    }
                }
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.push(Item::Mark),
                b'N' | 0x88 | 0x89 => self.push(Item::Other),
                b'G' => {
                    self.take(8)?;
                    self.push(Item::Other);
                }
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let number = i32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default());
                    self.push(Item::Int(i64::from(number)));
                }
                0x8a => self.long()?,
                b'X' => {
                    let length = self.length(4)?;
                    self.text(length)?;
                }
                0x8c => {
                    let length = self.length(1)?;
                    self.text(length)?;
                }
                b')' | b']' => self.push(Item::Sequence(Vec::new())),
                b't' => {
                    let values = self.marked()?;
                    self.push(Item::Sequence(values));
                }
                0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
                b'}' => self.push(Item::Dict(Vec::new())),
                b'a' => {
                    let value = self.pop()?;
                    self.append(&[value])?;
                }
                b'e' => {
                    let values = self.marked()?;
                    self.append(&values)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let values = self.marked()?;
                    self.set(&values)?;
                }
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => {
                    let top = self.top()?;
                    self.memo.insert(self.memo.len() as u64, top);
                }
                b'h' => {
                    let index = self.number(1)?;
                    self.get(index)?;
                }
                b'j' => {
                    let index = self.number(4)?;
                    self.get(index)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.class(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Item::Text(module), Item::Text(name)) = (&self.items[module], &self.items[name])
                    else {
                        return Err("a class without a name".to_owned());
                    };
                    let (module, name) = (module.clone(), name.clone());
                    self.class(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                other => return Err(format!("opcode 0x{other:02x} is not read: tensors need none of it")),
            }
        }
    }

    fn integer(&mut self, bytes: usize) -> Result<(), String> {
        let number = self.number(bytes)?;
        self.push(Item::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        Ok(())
    }

    /// An integer of any length, of which up to eight bytes are read.
    fn long(&mut self) -> Result<(), String> {
        let count = self.length(1)?;
        if count > 8 {
            return Err("an integer of more than 64 bits".to_owned());
        }
        let bytes = self.take(count)?;
        let fill = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xFF } else { 0 };
        let mut all = [fill; 8];
        all[..count].copy_from_slice(bytes);
        self.push(Item::Int(i64::from_le_bytes(all)));
        Ok(())
    }

    fn put(&mut self, bytes: usize) -> Result<(), String> {
        let (index, top) = (self.number(bytes)?, self.top()?);
        self.memo.insert(index, top);
        Ok(())
    }

    fn append(&mut self, values: &[Id]) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.items[list] {
            Item::Sequence(all) => all.extend_from_slice(values),
            _ => return Err("values appended to what is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, values: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.items[dict] {
            Item::Dict(all) => all.extend(values.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("values set in what is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn class(&mut self, module: &str, name: &str) -> Result<(), String> {
        let class = match (module, name) {
            ("collections", "OrderedDict") => Class::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Class::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Class::RebuildParameter,
            ("torch", name) if name.ends_with("Storage") => {
                Class::Storage(name.trim_end_matches("Storage").to_owned())
            }
            _ => return Err(format!("it names {module}.{name}, and only tensors and plain values are read")),
        };
        self.push(Item::Class(class));
        Ok(())
    }

    /// The elements of a tuple.
    fn parts(&self, id: Id) -> Result<&[Id], String> {
        match &self.items[id] {
            Item::Sequence(parts) => Ok(parts),
            _ => Err("arguments that are no tuple".to_owned()),
        }
    }

    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let parts: Vec<&Item> = self.parts(id)?.iter().map(|id| &self.items[*id]).collect();
        let [
            Item::Text(word),
            Item::Class(Class::Storage(kind)),
            Item::Text(key),
            Item::Text(_),
            Item::Int(n),
        ] = parts[..]
        else {
            return Err("a persistent id that is no storage".to_owned());
        };
        let elements = u64::try_from(*n).ok().filter(|_| word == "storage");
        let elements = elements.ok_or("a persistent id that is no storage")?;
        let storage = StorageRef { key: key.clone(), kind: kind.clone(), elements };
        self.push(Item::Storage(storage));
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Item::Class(class) = self.items[function].clone() else {
            return Err("a call of what is no function".to_owned());
        };
        let parts = self.parts(arguments)?.to_vec();
        match (class, &parts[..]) {
            (Class::OrderedDict, []) => self.push(Item::Dict(Vec::new())),
            (Class::RebuildParameter, [data, ..]) => self.stack.push(*data),
            (Class::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let (Item::Storage(storage), Item::Int(offset)) =
                    (&self.items[*storage], &self.items[*offset])
                else {
                    return Err("a tensor without a storage".to_owned());
                };
                let numbers = |id: Id| -> Result<Vec<u64>, String> {
                    let number = |id: &Id| match self.items[*id] {
                        Item::Int(number) => u64::try_from(number).ok(),
                        _ => None,
                    };
                    let all: Option<Vec<u64>> = self.parts(id)?.iter().map(number).collect();
                    all.ok_or_else(|| "a shape that is no list of sizes".to_owned())
                };
                let tensor = TensorRef {
                    storage: storage.clone(),
                    offset: u64::try_from(*offset).map_err(|_| "a tensor before its storage")?,
                    shape: numbers(*shape)?,
                    strides: numbers(*strides)?,
                };
                self.push(Item::Tensor(tensor));
            }
            _ => return Err("a call with other arguments than a tensor's".to_owned()),
        }
        Ok(())
    }
}
