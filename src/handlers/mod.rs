//! Floor 4: the ready-made endpoints, one file for each family, named as its users know it.

pub(crate) mod broadcast;
pub(crate) mod channels_chat;
pub(crate) mod connection_manager;
pub(crate) mod echo;
pub(crate) mod python_json;
pub(crate) mod tutorial_echo;
